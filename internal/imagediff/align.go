package imagediff

// maxAlign bounds the work of align: the product of the lengths of what remains between a common beginning and a common end.
const maxAlign = 1 << 20

// align finds a longest common subsequence of two lists, and calls visit with the numbers of each item: those of two that are equal, or
// one of which nothing in the other list is, beside -1.
func align[T any, K comparable](a, b []T, key func(T) K, visit func(i, j int)) {
	ka, kb := keysOf(a, key), keysOf(b, key)
	start := 0
	for start < len(ka) && start < len(kb) && ka[start] == kb[start] {
		visit(start, start)
		start++
	}
	endA, endB := len(ka), len(kb)
	for endA > start && endB > start && ka[endA-1] == kb[endB-1] {
		endA--
		endB--
	}
	alignMiddle(ka[start:endA], kb[start:endB], func(i, j int) {
		visit(shifted(i, start), shifted(j, start))
	})
	for ; endA < len(ka); endA, endB = endA+1, endB+1 {
		visit(endA, endB)
	}
}

func keysOf[T any, K comparable](list []T, key func(T) K) []K {
	keys := make([]K, len(list))
	for i, item := range list {
		keys[i] = key(item)
	}
	return keys
}

func shifted(i, by int) int {
	if i < 0 {
		return i
	}
	return i + by
}

// alignMiddle is align for lists that begin and end with different items.
func alignMiddle[K comparable](a, b []K, visit func(i, j int)) {
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	var common [][]int
	if len(a)*len(b) <= maxAlign {
		common = make([][]int, len(a)+1)
		common[len(a)] = make([]int, len(b)+1)
		for i := len(a) - 1; i >= 0; i-- {
			common[i] = make([]int, len(b)+1)
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case common != nil && i < len(a) && j < len(b) && a[i] == b[j]:
			visit(i, j)
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && (common == nil || common[i+1][j] >= common[i][j+1]):
			visit(i, -1)
			i++
		default:
			visit(-1, j)
			j++
		}
	}
}
