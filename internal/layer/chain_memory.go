package layer

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
)

// recentChains is how many chains a chainMemory keeps at least; it keeps at most twice as many.
const recentChains = 128

// chainMemory remembers the files of the chains that were used last, by ChainID. Of a build of thousands of steps each chain lists all
// that the one before has, and is needed no more once the next is made. It is safe for concurrent use.
type chainMemory struct {
	mu            sync.Mutex
	recent, older map[digest.Digest]*index.Node
}

// get returns the files of a chain, nil where they are not remembered.
func (m *chainMemory) get(id digest.Digest) *index.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.recent[id]; n != nil {
		return n
	}
	n := m.older[id]
	if n != nil {
		m.put(id, n)
	}
	return n
}

func (m *chainMemory) add(id digest.Digest, n *index.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(id, n)
}

// put is add for who holds the lock.
func (m *chainMemory) put(id digest.Digest, n *index.Node) {
	if m.recent == nil || len(m.recent) == recentChains {
		m.recent, m.older = make(map[digest.Digest]*index.Node), m.recent
	}
	m.recent[id] = n
}

func (m *chainMemory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent, m.older = nil, nil
}
