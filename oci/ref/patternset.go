package ref

import "strings"

// Includes reports whether p has every name that q has. It may say no where it cannot tell, never yes where it is not so.
func (p Pattern) Includes(q Pattern) bool {
	if len(p.parts) == 0 || len(q.parts) == 0 {
		return false
	}
	// included[j] says that the rest of p, from the part that is looked at, has what the rest of q from part j has.
	included := make([]bool, len(q.parts)+1)
	included[len(q.parts)] = true
	for i := len(p.parts) - 1; i >= 0; i-- {
		next := make([]bool, len(q.parts)+1)
		if p.parts[i] == "**" {
			// It takes any parts of q; at the end of p at least one, which every rest of q stands for that is not empty.
			last := i == len(p.parts)-1
			next[len(q.parts)] = !last && included[len(q.parts)]
			for j := len(q.parts) - 1; j >= 0; j-- {
				next[j] = last || included[j] || next[j+1]
			}
		} else {
			for j, part := range q.parts {
				next[j] = part != "**" && matchPart(p.parts[i], part) && included[j+1] // a * of q is taken by a * of p alone
			}
		}
		included = next
	}
	return included[0]
}

// Meets reports whether there can be a name that both have.
func (p Pattern) Meets(q Pattern) bool {
	if len(p.parts) == 0 || len(q.parts) == 0 {
		return false
	}
	a, b := p.spread(), q.spread()
	return meets(len(a), len(b),
		func(i int) bool { return a[i] == "**" }, func(j int) bool { return b[j] == "**" },
		func(i, j int) bool { return partsMeet(a[i], b[j]) })
}

// spread are the parts such that each ** stands for none or more: at the end it is one or more.
func (p Pattern) spread() []string {
	last := len(p.parts) - 1
	if p.parts[last] != "**" {
		return p.parts
	}
	return append(append([]string{}, p.parts[:last]...), "*", "**")
}

// partsMeet reports whether there can be a part of a name that both have.
func partsMeet(a, b string) bool {
	if !strings.Contains(a, "*") {
		return matchPart(b, a)
	}
	return meets(len(a), len(b),
		func(i int) bool { return a[i] == '*' }, func(j int) bool { return b[j] == '*' },
		func(i, j int) bool { return a[i] == b[j] })
}

// meets reports whether two texts of n and m signs, some of which stand for any number of signs, can be the same.
func meets(n, m int, anyA, anyB func(int) bool, same func(i, j int) bool) bool {
	row := make([]bool, m+1) // row[j]: the rests of the first from i and of the second from j can be the same
	row[m] = true
	for j := m - 1; j >= 0; j-- {
		row[j] = anyB(j) && row[j+1]
	}
	for i := n - 1; i >= 0; i-- {
		next := make([]bool, m+1)
		next[m] = anyA(i) && row[m]
		for j := m - 1; j >= 0; j-- {
			if anyA(i) || anyB(j) { // it stands for nothing more, or for the other's sign
				next[j] = row[j] || next[j+1]
			} else {
				next[j] = same(i, j) && row[j+1]
			}
		}
		row = next
	}
	return row[0]
}
