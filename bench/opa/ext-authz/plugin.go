package main

import (
	"context"
	"net"
	"strings"
	"sync"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"
	"google.golang.org/grpc"
)

const name = "envoy_ext_authz_grpc"

// The largest request that is taken: head and body of the largest call of the comparison.
const largest = 8 << 20

type config struct {
	Addr string `json:"addr"`
	Path string `json:"path"`
}

type factory struct{}

func (factory) Validate(_ *plugins.Manager, raw []byte) (any, error) {
	parsed := config{Addr: ":9191", Path: "envoy/authz/allow"}
	err := util.Unmarshal(raw, &parsed)
	return parsed, err
}

func (factory) New(manager *plugins.Manager, parsed any) plugins.Plugin {
	served := &server{manager: manager, config: parsed.(config)}
	manager.RegisterCompilerTrigger(func(storage.Transaction) { served.forget() })
	manager.UpdatePluginStatus(name, &plugins.Status{State: plugins.StateNotReady})
	return served
}

// The plugin: a gRPC server, and the query, prepared once for each set of rules.
type server struct {
	authv3.UnimplementedAuthorizationServer
	manager *plugins.Manager
	config  config
	grpc    *grpc.Server

	lock     sync.Mutex
	prepared *rego.PreparedEvalQuery
}

func (s *server) Start(context.Context) error {
	listener, err := net.Listen("tcp", s.config.Addr)
	if err != nil {
		return err
	}
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(largest))
	authv3.RegisterAuthorizationServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(listener) }()
	s.manager.UpdatePluginStatus(name, &plugins.Status{State: plugins.StateOK})
	return nil
}

func (s *server) Stop(context.Context) { s.grpc.Stop() }

func (*server) Reconfigure(context.Context, any) {}

func (s *server) forget() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.prepared = nil
}

// The query over the rules in force.
func (s *server) query(ctx context.Context, txn storage.Transaction) (*rego.PreparedEvalQuery, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.prepared != nil {
		return s.prepared, nil
	}
	prepared, err := rego.New(
		rego.Query("data."+strings.ReplaceAll(s.config.Path, "/", ".")),
		rego.Compiler(s.manager.GetCompiler()),
		rego.Store(s.manager.Store),
		rego.Transaction(txn),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	s.prepared = &prepared
	return s.prepared, nil
}
