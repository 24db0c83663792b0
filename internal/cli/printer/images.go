// Package printer writes results as docker does: tables, templates and JSON.
package printer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/image"
)

// Images writes a row for each name of the images, as Docker's formatter does, in few writes: that one writes cell by cell. used are the numbers of
// their containers.
func Images(c formatter.ImageContext, images []*image.Image, used map[digest.Digest]int64) error {
	b := bufio.NewWriter(c.Output)
	c.Output = b
	var err error
	if c.Format == formatter.NewImageFormat(formatter.TableFormatKey, false, false) {
		err = writeImageTable(b, summaries(images, used), c.Trunc)
	} else {
		err = formatter.ImageWrite(c, summaries(images, used))
	}
	return errors.Join(err, b.Flush())
}

// writeImageTable writes the table that Docker's formatter writes where no other is asked for: without the template that is
// executed for each row, which takes longer than to find out what is to be written.
func writeImageTable(w io.Writer, images []imagetypes.Summary, trunc bool) error {
	table := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if _, err := fmt.Fprintln(table, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE"); err != nil {
		return err
	}
	now := time.Now()
	for _, s := range images {
		repository, tag := rowName(s)
		id := s.ID
		if trunc {
			id = formatter.TruncateID(id)
		}
		created := "N/A"
		if at := time.Unix(s.Created, 0); !at.IsZero() {
			created = units.HumanDuration(now.Sub(at)) + " ago"
		}
		_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", repository, tag, id, created, units.HumanSizeWithPrecision(float64(s.Size), 3))
		if err != nil {
			return err
		}
	}
	return table.Flush()
}

// rowName is what a row says of the image's name.
func rowName(s imagetypes.Summary) (repository, tag string) {
	const none = "<none>"
	switch {
	case len(s.RepoTags) > 0:
		repository = repositoryName(s.RepoTags[0])
		return repository, strings.TrimPrefix(s.RepoTags[0], repository+":")
	case len(s.RepoDigests) > 0:
		return repositoryName(s.RepoDigests[0]), none
	}
	return none, none
}

// summaries are images as Docker's formatter takes them: one per row, so that their order is ours. A repository of which
// only a digest is left has a row without a tag.
func summaries(images []*image.Image, used map[digest.Digest]int64) []imagetypes.Summary {
	var list []imagetypes.Summary
	for _, img := range images {
		s := dockerapi.Summarize(img)
		s.Containers = used[img.ID]
		s.RepoTags, s.RepoDigests = nil, nil
		tagged := map[string]bool{}
		for _, n := range img.Names {
			named := s
			named.RepoTags = []string{n}
			repository := repositoryName(n)
			tagged[repository] = true
			for _, d := range img.Digests {
				if repositoryName(d) == repository {
					named.RepoDigests = append(named.RepoDigests, d)
				}
			}
			list = append(list, named)
		}
		for _, d := range img.Digests {
			if repository := repositoryName(d); !tagged[repository] {
				tagged[repository] = true
				named := s
				named.RepoDigests = []string{d}
				list = append(list, named)
			}
		}
		if len(tagged) == 0 {
			list = append(list, s)
		}
	}
	return list
}

// repositoryName is a name without its tag or digest.
func repositoryName(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}
