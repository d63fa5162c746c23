package main

import (
	"context"
	"fmt"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/rego"
	opa "github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/storage"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
)

// Check decides on one request and logs the decision; an error refuses the request.
func (s *server) Check(ctx context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	began, measured := time.Now(), metrics.New()
	input, err := inputOf(request)
	if err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(input)
	if err != nil {
		return nil, err
	}
	var allowed any
	var id uuid.UUID
	err = storage.Txn(ctx, s.manager.Store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		allowed, err = s.decide(ctx, txn, value, measured)
		if err != nil {
			return err
		}
		id, err = uuid.NewRandom()
		if err != nil {
			return err
		}
		return s.log(ctx, &opa.Info{
			Txn: txn, DecisionID: id.String(), Path: s.config.Path, Timestamp: began, Metrics: measured,
			Input: &input, InputAST: value, Results: &allowed,
		})
	})
	if err != nil {
		return nil, err
	}
	answer := code.Code_PERMISSION_DENIED
	if allowed == true {
		answer = code.Code_OK
	}
	return &authv3.CheckResponse{Status: &status.Status{Code: int32(answer)}}, nil
}

func (s *server) decide(
	ctx context.Context, txn storage.Transaction, input ast.Value, measured metrics.Metrics,
) (any, error) {
	query, err := s.query(ctx, txn)
	if err != nil {
		return nil, err
	}
	results, err := query.Eval(
		ctx, rego.EvalParsedInput(input), rego.EvalTransaction(txn), rego.EvalMetrics(measured),
	)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("the decision is undefined")
	}
	return results[0].Expressions[0].Value, nil
}

func (s *server) log(ctx context.Context, info *opa.Info) error {
	if log := logs.Lookup(s.manager); log != nil {
		return log.Log(ctx, info)
	}
	return nil
}
