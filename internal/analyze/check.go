package analyze

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"go.yaml.in/yaml/v3"
)

// Check is a threshold, and whether the image passes it.
type Check struct {
	Name  string `json:"name"`
	Limit string `json:"limit"` // as it was given
	Value string `json:"value"`
	Pass  bool   `json:"pass"`
}

// Limit is a threshold for a report.
type Limit struct {
	name  string
	limit string
	check func(r *Report) (value string, pass bool)
}

// Check applies limits to a report, and reports whether it passes all.
func (r *Report) Check(limits []Limit) bool {
	pass := true
	for _, l := range limits {
		value, ok := l.check(r)
		r.Checks = append(r.Checks, Check{Name: l.name, Limit: l.limit, Value: value, Pass: ok})
		pass = pass && ok
	}
	return pass
}

// MaxWasted limits the bytes that layers have and the image has not.
func MaxWasted(text string) (Limit, error) {
	most, err := parseSize(text)
	return Limit{"max-wasted", text, func(r *Report) (string, bool) { return Size(r.Wasted.Bytes), r.Wasted.Bytes <= most }}, err
}

// MaxSize limits the size of the image.
func MaxSize(text string) (Limit, error) {
	most, err := parseSize(text)
	return Limit{"max-size", text, func(r *Report) (string, bool) { return Size(r.Size), r.Size <= most }}, err
}

// MinEfficiency limits the efficiency, "0.95" or "95%".
func MinEfficiency(text string) (Limit, error) {
	least, err := parseRatio(text)
	return Limit{"min-efficiency", text, func(r *Report) (string, bool) { return Percent(r.Efficiency), r.Efficiency >= least }}, err
}

// FailOn fails an image that has findings of a kind.
func FailOn(text string) (Limit, error) {
	for _, k := range Kinds {
		if string(k) == text {
			return Limit{"fail-on", text, func(r *Report) (string, bool) {
				n := 0
				for _, f := range r.Findings {
					if f.Kind == k {
						n++
					}
				}
				return strconv.Itoa(n), n == 0
			}}, nil
		}
	}
	return Limit{}, fmt.Errorf("%q is not a kind of findings (secret, waste, cache or duplicate)", text)
}

// Percent is a ratio in words.
func Percent(ratio float64) string { return strconv.FormatFloat(ratio*100, 'f', 2, 64) + " %" }

// parseSize reads a size: bytes, or with a unit, of which kB and MB are decimal and KiB and MiB binary.
func parseSize(text string) (int64, error) {
	parse := units.FromHumanSize
	if strings.Contains(strings.ToLower(text), "ib") {
		parse = units.RAMInBytes
	}
	n, err := parse(strings.TrimSpace(text))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size, as 20MB or 20MiB", text)
	}
	return n, nil
}

// parseRatio reads a part of one, "0.95", or a percentage, "95%".
func parseRatio(text string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	ratio, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		ratio /= 100
	}
	if err != nil || math.IsNaN(ratio) || ratio < 0 || ratio > 1 {
		return 0, fmt.Errorf("%q is not a ratio between 0 and 1, nor a percentage", text)
	}
	return ratio, nil
}

// diveRules are the rules of dive's .dive-ci, by the names of the file itself and by those of dive's own configuration. What is
// missing has dive's default.
type diveRules struct {
	Efficiency  string `yaml:"lowestEfficiency"`
	Efficiency2 string `yaml:"lowest-efficiency"`
	Bytes       string `yaml:"highestWastedBytes"`
	Bytes2      string `yaml:"highest-wasted-bytes"`
	Percent     string `yaml:"highestUserWastedPercent"`
	Percent2    string `yaml:"highest-user-wasted-percent"`
}

// maxRules bounds a file of rules.
const maxRules = 1 << 20

// DiveRules reads a file of rules for dive. They are checked against dive's numbers, so that an image passes here if it passes there.
func DiveRules(r io.Reader) ([]Limit, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRules))
	if err != nil {
		return nil, err
	}
	var file struct {
		Rules diveRules `yaml:"rules"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	rules := file.Rules
	return limitsOf(
		diveRule{"lowestEfficiency", either(rules.Efficiency, rules.Efficiency2, "0.9"), diveEfficiency},
		diveRule{"highestWastedBytes", either(rules.Bytes, rules.Bytes2, "disabled"), diveBytes},
		diveRule{"highestUserWastedPercent", either(rules.Percent, rules.Percent2, "0.1"), divePercent},
	)
}

// diveRule is a rule as the file has it.
type diveRule struct {
	name, text string
	parse      func(text string) (func(r *Report) (string, bool), error)
}

func limitsOf(rules ...diveRule) (limits []Limit, err error) {
	for _, r := range rules {
		switch strings.ToLower(strings.TrimSpace(r.text)) {
		case "", "disabled", "off", "false":
			continue
		}
		check, err := r.parse(r.text)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.name, err)
		}
		limits = append(limits, Limit{r.name, r.text, check})
	}
	return limits, nil
}

func either(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func diveEfficiency(text string) (func(r *Report) (string, bool), error) {
	least, err := parseRatio(text)
	return func(r *Report) (string, bool) { return Percent(r.Dive.Efficiency), r.Dive.Efficiency >= least }, err
}

func diveBytes(text string) (func(r *Report) (string, bool), error) {
	most, err := parseSize(text)
	return func(r *Report) (string, bool) {
		return Size(r.Dive.InefficientBytes), r.Dive.InefficientBytes <= most
	}, err
}

func divePercent(text string) (func(r *Report) (string, bool), error) {
	most, err := parseRatio(text)
	return func(r *Report) (string, bool) {
		return Percent(r.Dive.UserWastedPercent), r.Dive.UserWastedPercent <= most
	}, err
}
