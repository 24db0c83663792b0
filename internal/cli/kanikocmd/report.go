package kanikocmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/internal/kaniko"
	"github.com/micabuild/mica/internal/redact"
)

// report writes the files that the flags name.
func report(ctx context.Context, o *kaniko.Options, digest string) error {
	var names, tagged strings.Builder
	var images []map[string]string
	for _, n := range o.Names() {
		fmt.Fprintf(&names, "%s@%s\n", n.Repository, digest)
		fmt.Fprintf(&tagged, "%s:%s@%s\n", n.Repository, n.Tag, digest)
		images = append(images, map[string]string{"name": n.Repository + ":" + n.Tag, "digest": digest})
	}
	for _, f := range []struct{ dest, text string }{
		{o.DigestFile, digest}, {o.ImageNameDigestFile, names.String()}, {o.ImageNameTagDigestFile, tagged.String()},
	} {
		if f.dest == "" {
			continue
		}
		if err := write(ctx, f.dest, f.text); err != nil {
			return fmt.Errorf("writing digest to file failed: %w", err)
		}
	}
	if dir := os.Getenv("BUILDER_OUTPUT"); dir != "" && !o.NoPush {
		return writeImages(filepath.Join(dir, "images"), images)
	}
	return nil
}

// write writes a file, or sends it by a PUT to a URL.
func write(ctx context.Context, dest, text string) error {
	if !strings.HasPrefix(dest, "https://") {
		if err := os.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
			return err
		}
		return os.WriteFile(dest, []byte(text), 0o644)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, dest, strings.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", redact.URLs(dest), resp.Status)
	}
	return nil
}

// writeImages writes the file that Google Cloud Build reads: a line for each image.
func writeImages(name string, images []map[string]string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for _, i := range images {
		if err := json.NewEncoder(f).Encode(i); err != nil {
			_ = f.Close()
			return err
		}
	}
	return f.Close()
}
