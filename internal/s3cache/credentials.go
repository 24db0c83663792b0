package s3cache

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// metadataClient asks the services that give roles their credentials. Elsewhere than on machines of Amazon their addresses do not answer.
var metadataClient = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext},
}

// StaticKeys are the credentials that a user has given.
func StaticKeys(id, secret, session string) *credentials.Credentials {
	return credentials.NewStaticV4(id, secret, session)
}

// HostKeys are the credentials of the host, found as by Amazon's programs: the environment, the identity of a pod, the files of ~/.aws, and
// the role of a container or of the machine.
func HostKeys(region string) *credentials.Credentials {
	chain := []credentials.Provider{&credentials.EnvAWS{}}
	role := &credentials.IAM{Region: region}
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		chain = append(chain, role)
	}
	chain = append(chain, &credentials.FileAWSCredentials{})
	if off, err := strconv.ParseBool(os.Getenv("AWS_EC2_METADATA_DISABLED")); err != nil || !off {
		chain = append(chain, role)
	}
	return credentials.NewChainCredentials(chain)
}
