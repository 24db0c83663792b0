package engineapi

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/containers"
)

// pathHeader has the description of a file that docker cp copies.
const pathHeader = "X-Docker-Container-Path-Stat"

func setPathStat(w http.ResponseWriter, stat *container.PathStat) {
	raw, err := json.Marshal(stat)
	if err == nil {
		w.Header().Set(pathHeader, base64.StdEncoding.EncodeToString(raw))
	}
}

func pathOf(r *http.Request) (string, error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return "", badRequest("bad parameter: path cannot be empty")
	}
	return name, nil
}

// statArchive answers the first part of docker cp.
func statArchive(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	stat, err := c.StatPath(r.Context(), name)
	if err != nil {
		return err
	}
	setPathStat(w, stat)
	return nil
}

// getArchive answers docker cp from a container.
func getArchive(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	return c.Archive(r.Context(), name, func(stat *container.PathStat) io.Writer {
		setPathStat(w, stat)
		w.Header().Set("Content-Type", "application/x-tar")
		return w
	})
}

// putArchive answers docker cp to a container. The tar may be compressed.
func putArchive(_ http.ResponseWriter, r *http.Request, c *containers.Container) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	in, _, err := compression.NewReader(r.Body)
	if err != nil {
		return badRequest("read tar: %w", err)
	}
	defer func() { _ = in.Close() }()
	return c.Extract(r.Context(), name, in, containers.ExtractOptions{KeepDirectories: boolean(r, "noOverwriteDirNonDir"), OwnUser: boolean(r, "copyUIDGID")})
}

// exportContainer answers docker export.
func exportContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	return c.Export(r.Context(), func() io.Writer {
		w.Header().Set("Content-Type", "application/octet-stream")
		return w
	})
}
