package dirsync

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"unicode"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"google.golang.org/grpc/metadata"
)

// Request says which files of a client are wanted.
type Request struct {
	Name                     string // of the directory
	Include, Exclude, Follow []string
}

// From asks a client for files, and receives them.
func From(ctx context.Context, client session.Caller, req Request, opt Options) (*Files, error) {
	if !client.Supports(session.MethodURL(filesync.FileSync_ServiceDesc.ServiceName, "diffcopy")) {
		return nil, errors.New("the client has no directories to send")
	}
	ctx, cancel := context.WithCancel(client.Context(ctx))
	defer cancel()
	stream, err := filesync.NewFileSyncClient(client.Conn()).DiffCopy(metadata.NewOutgoingContext(ctx, req.metadata()))
	if err != nil {
		return nil, err
	}
	files, err := Receive(ctx, stream, opt)
	if err == nil {
		err = stream.CloseSend()
	}
	return files, err
}

// metadata is the request as BuildKit's clients read it. Lists with characters that a header cannot have are encoded.
func (r Request) metadata() metadata.MD {
	md := metadata.MD{}
	for key, list := range map[string][]string{
		"dir-name": {r.Name}, "include-patterns": r.Include, "exclude-patterns": r.Exclude, "followpaths": r.Follow,
	} {
		if list == nil {
			continue
		}
		encode := strings.ContainsFunc(strings.Join(list, ""), func(c rune) bool { return c > unicode.MaxASCII })
		if encode {
			md.Set(key+"-encoded", "1")
		}
		for _, v := range list {
			if encode {
				v = url.QueryEscape(v)
			}
			md.Append(key, v)
		}
	}
	return md
}
