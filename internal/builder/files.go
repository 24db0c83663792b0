package builder

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/view"
)

// files are the content of the outputs local and tar: the root filesystem, or those of several platforms, each in a directory of
// its own or, with platform-split=false, all in one.
func (x *exporter) files(ctx context.Context, e buildspec.Output) (view.View, error) {
	split := x.out.several
	if e.Split != nil && (e.Type == buildspec.OutputLocal || !split) {
		split = *e.Split // BuildKit always splits tars
	}
	if !split && len(x.out.platforms) == 1 {
		return x.view(ctx, x.out.platforms[0], e, "")
	}
	all := view.NewOverlay(view.Empty())
	taken := map[string]string{}
	for _, p := range x.out.platforms {
		dest, mark := "/"+p.directory(), ""
		if !split {
			dest, mark = "/", "."+p.directory()
		}
		v, err := x.view(ctx, p, e, mark)
		if err == nil && !split {
			err = claim(ctx, taken, v, ".", p.id)
		}
		if err == nil && split {
			err = mkdir(ctx, all, dest, p, e.Form)
		}
		if err == nil {
			err = all.Copy(ctx, v, "/", dest, view.CopyOptions{DirCopyContents: true, CreateDestPath: true})
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// mkdir makes the directory of a platform, with the time of its files if that is SOURCE_DATE_EPOCH.
func mkdir(ctx context.Context, all *view.Overlay, name string, p *built, f buildspec.Form) error {
	p, err := p.withEpoch(f)
	if err != nil {
		return err
	}
	var at *int64
	if p.epoch != nil {
		nanoseconds := p.epoch.UnixNano()
		at = &nanoseconds
	}
	return all.Mkdir(ctx, name, 0o755, true, nil, at)
}

// claim records the platform of each file below dir, and refuses files that another platform has, too.
func claim(ctx context.Context, taken map[string]string, v view.View, dir, platform string) error {
	list, err := v.ReadDir(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.IsDir() {
			if err := claim(ctx, taken, v, e.Path, platform); err != nil {
				return err
			}
			continue
		}
		if other, ok := taken[e.Path]; ok {
			return fmt.Errorf("cannot overwrite %s from %s with %s when split option is disabled: omit platform-split=false", e.Path, other, platform)
		}
		taken[e.Path] = platform
	}
	return nil
}

// view is the files of a platform and its attestations, as files whose names have mark before their extension. SOURCE_DATE_EPOCH is the
// time of all of them.
func (x *exporter) view(ctx context.Context, p *built, e buildspec.Output, mark string) (view.View, error) {
	p, err := p.withEpoch(e.Form)
	if err != nil {
		return nil, err
	}
	v, err := x.attested(ctx, p, e.StatementPrefix, mark)
	if err != nil || p.epoch == nil {
		return v, err
	}
	return view.Dated(v, *p.epoch), nil
}

// attested is the files of a platform with its attestations, as files whose names begin with prefix and have mark before their extension.
func (x *exporter) attested(ctx context.Context, p *built, prefix, mark string) (view.View, error) {
	v, err := x.solver.View(ctx, p.result)
	if err != nil {
		return nil, err
	}
	list, err := x.out.attester.attestations(ctx, p, nil)
	list = slices.DeleteFunc(list, func(a *attest.Attestation) bool { return a.ImageOnly })
	if err != nil || len(list) == 0 {
		return v, err
	}
	subjects, err := attest.Files(ctx, v)
	if err != nil {
		return nil, err
	}
	files := view.NewOverlay(v)
	for _, a := range list {
		data, err := a.Statement(subjects)
		if err != nil {
			return nil, err
		}
		ext := path.Ext(a.Name)
		name := path.Join("/", prefix+strings.TrimSuffix(a.Name, ext)+mark+ext)
		if err := files.Mkfile(ctx, name, 0o600, data, nil, nil); err != nil {
			return nil, err
		}
	}
	return files, nil
}
