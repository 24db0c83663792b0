package analyze

import (
	"errors"
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

// passes says how a value compares with a limit: in words, and in digits where the words are those of the limit and hide why it fails.
func passes(pass bool, value, limit, exact string) (string, bool) {
	if !pass && value == limit {
		value = exact
	}
	return value, pass
}

func notOver(value, most int64) (string, bool) {
	return passes(value <= most, Size(value), Size(most), strconv.FormatInt(value, 10)+"B")
}

func notUnder(value, least float64) (string, bool) {
	return passes(value >= least, Percent(value), Percent(least), exactPercent(value))
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
	return Limit{"max-wasted", text, func(r *Report) (string, bool) { return notOver(r.Wasted.Bytes, most) }}, err
}

// MaxSize limits the size of the image.
func MaxSize(text string) (Limit, error) {
	most, err := parseSize(text)
	return Limit{"max-size", text, func(r *Report) (string, bool) { return notOver(r.Size, most) }}, err
}

// MinEfficiency limits the efficiency, "0.95" or "95%".
func MinEfficiency(text string) (Limit, error) {
	least, err := parseRatio(text)
	return Limit{"min-efficiency", text, func(r *Report) (string, bool) { return notUnder(r.Efficiency, least) }}, err
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

// exactPercent is a ratio with all its digits.
func exactPercent(ratio float64) string { return strconv.FormatFloat(ratio*100, 'f', -1, 64) + " %" }

// parseDiveSize is parseSize with what dive takes, too: commas between digits, and Mi for MiB.
func parseDiveSize(text string) (int64, error) {
	plain := strings.ReplaceAll(text, ",", "")
	if strings.HasSuffix(strings.ToLower(plain), "i") {
		plain += "B"
	}
	n, err := parseSize(plain)
	if err != nil {
		_, err = parseSize(text) // which names the text as it is
	}
	return n, err
}

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
	Efficiency  *string `yaml:"lowestEfficiency"`
	Efficiency2 *string `yaml:"lowest-efficiency"`
	Bytes       *string `yaml:"highestWastedBytes"`
	Bytes2      *string `yaml:"highest-wasted-bytes"`
	Percent     *string `yaml:"highestUserWastedPercent"`
	Percent2    *string `yaml:"highest-user-wasted-percent"`
}

// maxRules bounds a file of rules.
const maxRules = 1 << 20

// DiveRules reads a file of rules for dive. They are checked against dive's numbers, so that an image passes here if it passes there.
func DiveRules(r io.Reader) ([]Limit, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRules+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRules {
		return nil, fmt.Errorf("it has more than %s", Size(maxRules))
	}
	var file struct {
		Rules diveRules `yaml:"rules"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " ")) // one line
	}
	rules := file.Rules
	return limitsOf(
		diveRule{"lowestEfficiency", either("0.9", rules.Efficiency, rules.Efficiency2), diveEfficiency},
		diveRule{"highestWastedBytes", either("disabled", rules.Bytes, rules.Bytes2), diveBytes},
		diveRule{"highestUserWastedPercent", either("0.1", rules.Percent, rules.Percent2), divePercent},
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

// either is the first text that is there, or def. An empty text turns a rule off.
func either(def string, texts ...*string) string {
	for _, t := range texts {
		if t != nil {
			return *t
		}
	}
	return def
}

func diveEfficiency(text string) (func(r *Report) (string, bool), error) {
	least, err := parseRatio(text)
	return func(r *Report) (string, bool) { return notUnder(r.Dive.Efficiency, least) }, err
}

func diveBytes(text string) (func(r *Report) (string, bool), error) {
	most, err := parseDiveSize(text)
	return func(r *Report) (string, bool) { return notOver(r.Dive.InefficientBytes, most) }, err
}

func divePercent(text string) (func(r *Report) (string, bool), error) {
	most, err := parseRatio(text)
	return func(r *Report) (string, bool) {
		value := r.Dive.UserWastedPercent
		return passes(value <= most, Percent(value), Percent(most), exactPercent(value))
	}, err
}
