//go:build e2e

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// protocols are those by which the API server speaks to a kubelet.
var protocols = []string{"v5.channel.k8s.io", "v4.channel.k8s.io"}

// streams are those of an exec with stdin: error, stdin, stdout and stderr.
const streams = 4

// serveExec answers the exec of a pod, "/exec/NAMESPACE/POD/CONTAINER", as mica dial-stdio in the pod does: it connects to the pod's server.
func (k *kubelets) serveExec(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	if len(parts) != 5 || parts[1] != "exec" {
		http.NotFound(w, r)
		return
	}
	k.mu.Lock()
	socket := ""
	if p := k.pods[parts[3]]; p != nil {
		socket = p.socket
	}
	k.mu.Unlock()
	server, err := net.Dial("unix", socket)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = server.Close() }()
	if _, err := httpstream.Handshake(r, w, protocols); err != nil {
		return
	}
	opened := make(chan httpstream.Stream, streams)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		select {
		case opened <- s:
			return nil
		default:
			return errors.New("too many streams")
		}
	})
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	byType, ok := collect(conn, opened)
	if !ok {
		return
	}
	go func() {
		_, _ = io.Copy(server, byType["stdin"])
		_ = server.Close()
	}()
	_, _ = io.Copy(byType["stdout"], server)
	_, _ = io.WriteString(byType["error"], `{"metadata":{},"status":"Success"}`)
	for _, s := range byType {
		_ = s.Close()
	}
}

// collect waits for the streams of an exec.
func collect(conn httpstream.Connection, opened <-chan httpstream.Stream) (byType map[string]httpstream.Stream, ok bool) {
	byType = map[string]httpstream.Stream{}
	late := time.After(time.Minute)
	for len(byType) < streams {
		select {
		case s := <-opened:
			byType[s.Headers().Get("streamType")] = s
		case <-conn.CloseChan():
			return nil, false
		case <-late:
			return nil, false
		}
	}
	return byType, true
}
