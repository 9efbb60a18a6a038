package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes the tables: figures side by side, what they cost, and the goals.
func (r *report) print(out io.Writer) {
	r.printFigures(out)
	r.printCosts(out)
	r.printGoals(out)
	r.printCompared(out)
	if r.quick {
		fmt.Fprintln(out, "\none round: a look, not a measurement")
	}
	for _, n := range r.notes {
		fmt.Fprintln(out, "note:", n)
	}
}

func newTable(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// printFigures has a row for each scenario, a column for each target, and berthd's ratios.
func (r *report) printFigures(out io.Writer) {
	fmt.Fprintf(out, "\nmedians of %d rounds; × ceiling = berthd / the target named; noise = processors busy with neither server nor generator\n\n", r.roundCount)
	w := newTable(out)
	fmt.Fprintf(w, "scenario\tunit\t%s\t× ceiling\t× dist3\tgoal\tspread\tnoise\t\n", strings.Join(r.targets, "\t"))
	verdicts := r.verdicts()
	for _, sc := range r.measured() {
		fmt.Fprintf(w, "%s\t%s\t", sc.name, sc.unit)
		for _, t := range r.targets {
			fmt.Fprintf(w, "%s\t", r.cell(sc.name, t, func(p phase) float64 { return p.Value }))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", r.ratio(sc, ceilingOf(sc), true), r.ratio(sc, "dist3", false), goalCell(sc.name, verdicts), r.spreadCell(sc.name), r.noiseCell(sc.name))
	}
	w.Flush()
}

// printCosts has server CPU and peak memory for each scenario and target.
func (r *report) printCosts(out io.Writer) {
	fmt.Fprint(out, "\nserver CPU (ms for each operation, or s for each GB where bytes count) + that of PostgreSQL and the S3 server behind it | peak RSS in MiB\n\n")
	w := newTable(out)
	fmt.Fprintf(w, "scenario\tCPU in\t%s\t\n", strings.Join(r.targets, "\t"))
	for _, sc := range r.measured() {
		if !r.timed(sc.name) {
			continue
		}
		unit := "ms/op"
		if r.perGB(sc.name) {
			unit = "s/GB"
		}
		fmt.Fprintf(w, "%s\t%s\t", sc.name, unit)
		for _, t := range r.targets {
			cpu := r.cell(sc.name, t, phase.cost)
			if p, ok := r.value(sc.name, t); ok && p.Behind > 0 {
				cpu += " + " + number(p.behind())
			}
			rss := r.cell(sc.name, t, func(p phase) float64 { return float64(p.Peak) / (1 << 20) })
			if cpu == "–" {
				fmt.Fprint(w, "–\t")
				continue
			}
			fmt.Fprintf(w, "%s | %s\t", cpu, rss)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// timed tells whether a scenario has costs of its own; those that look at a start do not.
func (r *report) timed(scenario string) bool {
	for _, t := range r.targets {
		if p, ok := r.value(scenario, t); ok && p.Wall > 0 {
			return true
		}
	}
	return false
}

func (r *report) perGB(scenario string) bool {
	for _, t := range r.targets {
		if p, ok := r.value(scenario, t); ok && p.Bytes > 0 {
			return true
		}
	}
	return false
}

func (r *report) printGoals(out io.Writer) {
	vs := r.verdicts()
	if len(vs) == 0 {
		return
	}
	passed := 0
	fmt.Fprint(out, "\ngoals of berthd\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range vs {
		fmt.Fprintf(w, "%s\t%s\tgot %s\t%s\n", v.Scenario, v.Wanted, number(v.Got), passWord(v.Pass))
		if v.Pass {
			passed++
		}
	}
	w.Flush()
	fmt.Fprintf(out, "\n%d of %d goals pass\n", passed, len(vs))
}

func (r *report) printCompared(out io.Writer) {
	cs := r.compared()
	if len(cs) == 0 {
		return
	}
	fmt.Fprint(out, "\ncompared\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range cs {
		fmt.Fprintf(w, "%s\t/ %s\t%s\t%.2f\n", c.Scenario, c.Other, c.About, c.Got)
	}
	w.Flush()
}

// line is one scenario in the progress output.
func (r *report) line(sc scenario) string {
	parts := []string{fmt.Sprintf("%-26s", sc.name)}
	for _, t := range r.targets {
		if c := r.cell(sc.name, t, func(p phase) float64 { return p.Value }); c != "–" {
			parts = append(parts, t+" "+c)
		}
	}
	return strings.Join(append(parts, sc.unit), "  ")
}

func (r *report) cell(scenario, target string, get func(phase) float64) string {
	p, ok := r.value(scenario, target)
	if !ok {
		return "–"
	}
	return number(get(p))
}

// ratio is berthd divided by target, as "×1.23", with the target's name when asked for.
func (r *report) ratio(sc scenario, target string, named bool) string {
	q, ok := quotient(r.rounds(sc.name, "berthd"), r.rounds(sc.name, target))
	if !ok {
		return "–"
	}
	text := fmt.Sprintf("%.2f", q)
	if named {
		text += " " + target
	}
	return text
}

// spreadCell is the spread of the target whose rounds differed most.
func (r *report) spreadCell(scenario string) string {
	worst := 0.0
	for _, rounds := range r.samples[scenario] {
		values := make([]float64, len(rounds))
		for i, p := range rounds {
			values[i] = p.Value
		}
		worst = max(worst, spread(values))
	}
	return fmt.Sprintf("%.0f%%", worst*100)
}

func (r *report) noiseCell(scenario string) string {
	var all []float64
	for _, rounds := range r.samples[scenario] {
		for _, p := range rounds {
			all = append(all, p.Other)
		}
	}
	return fmt.Sprintf("%.1f", median(all))
}

// goalCell is PASS when all goals of a scenario pass, miss when one does not, – when there is none.
func goalCell(scenario string, verdicts []verdict) string {
	cell := "–"
	for _, v := range verdicts {
		if v.Scenario != scenario {
			continue
		}
		if !v.Pass {
			return passWord(false)
		}
		cell = passWord(true)
	}
	return cell
}

func passWord(pass bool) string {
	if pass {
		return "PASS"
	}
	return "miss"
}

// number prints with three significant digits and thousands in groups.
func number(x float64) string {
	switch {
	case x >= 1000:
		s := fmt.Sprintf("%.0f", x)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1 || x == 0:
		return fmt.Sprintf("%.2f", x)
	default:
		return fmt.Sprintf("%.4f", x)
	}
}
