// Measures OPA's evaluation in its own process: `query RULES DATA INPUT ENTRY SECONDS` prepares the query once and
// evaluates it again and again for that long. It prints the decision, and the time of an evaluation in nanoseconds with
// the input parsed beforehand (`parsed_ns`) and with it given as Go values, which are converted each time (`given_ns`).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

func main() {
	if err := measure(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measure(arguments []string) error {
	if len(arguments) != 5 {
		return fmt.Errorf("usage: query RULES DATA INPUT ENTRY SECONDS")
	}
	seconds, err := strconv.ParseFloat(arguments[4], 64)
	if err != nil {
		return err
	}
	given, parsed, err := input(arguments[2])
	if err != nil {
		return err
	}
	ctx := context.Background()
	query, err := prepared(ctx, arguments[0], arguments[1], arguments[3])
	if err != nil {
		return err
	}
	decide := func(option rego.EvalOption) func() (rego.ResultSet, error) {
		return func() (rego.ResultSet, error) { return query.Eval(ctx, option) }
	}
	duration := time.Duration(seconds * float64(time.Second) / 2)
	parsedTime, decision, err := median(decide(rego.EvalParsedInput(parsed)), duration)
	if err != nil {
		return err
	}
	givenTime, _, err := median(decide(rego.EvalInput(given)), duration)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"decision": decision, "parsed_ns": parsedTime, "given_ns": givenTime,
	})
}

// The query over rules and data, the data kept as OPA's own values: the faster of its two ways.
func prepared(ctx context.Context, rules, data, entry string) (rego.PreparedEvalQuery, error) {
	text, err := os.ReadFile(data)
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	var documents map[string]any
	if err := json.Unmarshal(text, &documents); err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	store := inmem.NewFromObjectWithOpts(documents, inmem.OptReturnASTValuesOnRead(true))
	options := []func(*rego.Rego){rego.Query(entry), rego.Store(store)}
	files, err := filepath.Glob(filepath.Join(rules, "*.rego"))
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return rego.PreparedEvalQuery{}, err
		}
		options = append(options, rego.Module(file, string(text)))
	}
	return rego.New(options...).PrepareForEval(ctx)
}

func input(path string) (any, ast.Value, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var given any
	if err := json.Unmarshal(text, &given); err != nil {
		return nil, nil, err
	}
	parsed, err := ast.InterfaceToValue(given)
	return given, parsed, err
}

// The median time of an evaluation, over stretches of a hundred, and what it gave.
func median(evaluate func() (rego.ResultSet, error), duration time.Duration) (int64, any, error) {
	const stretch = 100
	var times []int64
	var decision any
	for end := time.Now().Add(duration); time.Now().Before(end); {
		began := time.Now()
		for range stretch {
			results, err := evaluate()
			if err != nil {
				return 0, nil, err
			}
			if len(results) != 1 {
				return 0, nil, fmt.Errorf("the decision is undefined")
			}
			decision = results[0].Expressions[0].Value
		}
		times = append(times, time.Since(began).Nanoseconds()/stretch)
	}
	if len(times) == 0 {
		return 0, nil, fmt.Errorf("no evaluation ended in time")
	}
	slices.Sort(times)
	return times[len(times)/2], decision, nil
}
