package index

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// maxTable bounds the memory of Diff; beyond it the part that differs is shown as a whole.
const maxTable = 16 << 20

// Pretty is JSON with one value on a line and the keys of each object in the order of the alphabet, so that two documents differ
// in what they say and not in how they were written. What is no JSON stays as it is.
func Pretty(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil || d.More() {
		return body
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(value) != nil {
		return body
	}
	return out.Bytes()
}

// Diff compares two texts line by line in the unified form of diff -u, with so many lines of context; a negative number
// means all of them. Texts that are the same give "".
func Diff(nameA, nameB string, a, b []byte, context int) string {
	if bytes.Equal(a, b) {
		return ""
	}
	edits := compare(strings.SplitAfter(strings.TrimSuffix(string(a), "\n"), "\n"), strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n"))
	if context < 0 {
		context = len(edits)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", nameA, nameB)
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i++
			continue
		}
		from, to := max(0, i-context), i
		for quiet := 0; to < len(edits) && quiet <= 2*context; to++ {
			if quiet++; edits[to].op != ' ' {
				quiet = 0
			}
		}
		for to > i && edits[to-1].op == ' ' && trailing(edits[:to]) > context {
			to--
		}
		hunk(&out, edits, from, to)
		i = to
	}
	return out.String()
}

type edit struct {
	op   byte // ' ', '-' or '+'
	line string
}

// trailing counts the unchanged lines at the end.
func trailing(edits []edit) (n int) {
	for n < len(edits) && edits[len(edits)-1-n].op == ' ' {
		n++
	}
	return n
}

func hunk(out *strings.Builder, edits []edit, from, to int) {
	lineA, lineB, sizeA, sizeB := 1, 1, 0, 0
	for i, e := range edits[:to] {
		inA, inB := e.op != '+', e.op != '-'
		switch {
		case i < from && inA && inB:
			lineA, lineB = lineA+1, lineB+1
		case i < from && inA:
			lineA++
		case i < from:
			lineB++
		default:
			if inA {
				sizeA++
			}
			if inB {
				sizeB++
			}
		}
	}
	if sizeA == 0 { // diff names the line before an addition to nothing
		lineA--
	}
	if sizeB == 0 {
		lineB--
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", lineA, sizeA, lineB, sizeB)
	for _, e := range edits[from:to] {
		fmt.Fprintf(out, "%c%s\n", e.op, strings.TrimSuffix(e.line, "\n"))
	}
}

// compare finds a longest common subsequence between what differs at the start and at the end.
func compare(a, b []string) []edit {
	same := func(x, y string) bool { return strings.TrimSuffix(x, "\n") == strings.TrimSuffix(y, "\n") }
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(a[len(a)-1], b[len(b)-1]) {
		tail = append([]edit{{' ', a[len(a)-1]}}, tail...)
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	longest := make([][]int32, len(a)+1)
	if (len(a)+1)*(len(b)+1) > maxTable {
		longest = nil
	}
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0 && longest != nil; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if same(a[i], b[j]) {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && longest != nil && same(a[i], b[j]):
			head = append(head, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || longest == nil || longest[i+1][j] >= longest[i][j+1]):
			head = append(head, edit{'-', a[i]})
			i++
		default:
			head = append(head, edit{'+', b[j]})
			j++
		}
	}
	return append(head, tail...)
}
