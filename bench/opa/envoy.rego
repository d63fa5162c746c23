# The adapter between Envoy's ext_authz and the library: it makes of a request what Outrider makes of it before its policy
# is asked, as far as that can be said in Rego, and hands it to the same decision.
#
# Everything that costs Outrider something and OPA would have to do in Rego is left out, in OPA's favour: the task's token
# is looked up and not verified, arguments are not held against a schema, nothing is limited, nothing is signed.
package envoy.authz

default allow := false

allow if {
	data.outrider.decision.allow == true with input as question
}

http := input.attributes.request.http

call := input.parsed_body

task := data.bench.tasks[http.headers["outrider-task-token"]]

tool := data.bench.tools[concat("/", [trim_left(http.path, "/"), call.params.name])]

time_ns := time.parse_rfc3339_ns(input.attributes.request.time)

default covered := false

covered if {
	some pattern in task.tools
	glob.match(pattern, ["/"], tool.id)
}

question := {
	"call": {
		"id": http.id,
		"time": input.attributes.request.time,
		"time_ns": time_ns,
		"protocol": "mcp",
		"phase": "call",
		"method": http.method,
		"path": http.path,
		"host": http.host,
		"port": 0,
		"listener": "reverse",
		"arguments": call.params.arguments,
		"arguments_bytes": http.size,
		"body_sha256": crypto.sha256(http.body),
		"input_responses": {},
		"trace_id": "",
	},
	"agent": data.bench.agent,
	"subject": {"id": task.subject},
	"actors": [],
	"task": task,
	"tool": tool,
	"content": {"classification": tool.classification, "labels": tool.labels, "findings": [], "opaque": false},
	"limits": [],
	"internal": {"allow": "evaluate", "covered": covered, "deny": "evaluate", "spent": {}, "usual": ""},
}
