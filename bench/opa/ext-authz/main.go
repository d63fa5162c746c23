// OPA that answers Envoy: the whole of OPA (its server, its decision log, its storage) with a plugin that serves
// Envoy's ext_authz v3 over gRPC. It stands in for OPA's own Envoy plugin where that is not to be had, takes the same
// configuration (`plugins.envoy_ext_authz_grpc: {addr, path}`) and the same command line, makes the same `input` of a
// request as far as policies of this comparison read it, and does no more per request than that one does.
package main

import (
	"os"

	"github.com/open-policy-agent/opa/cmd"
	"github.com/open-policy-agent/opa/v1/runtime"
)

func main() {
	runtime.RegisterPlugin(name, factory{})
	if err := cmd.RootCommand.Execute(); err != nil {
		os.Exit(1)
	}
}
