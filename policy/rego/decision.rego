# The decision on one call, in one page.
#
# A call is allowed when every guard holds (agent active, task active, tool in scope, level within the task's maximum,
# intent declares the tool, delegation not widened), and a grant or a user's `allow` permits it, and no `deny` exists.
# A user's `approve` then holds it for a person. An exception may lift `grant`, `intent` or `classification`.
#
# `input.internal.usual` is the grant by which the sidecar saw that nothing of this is in doubt. Where it did not,
# everything is considered: guards.rego and delegation.rego say when each guard holds, grants.rego who permits,
# exceptions.rego what an exception lifts.
package outrider

# What the sidecar asks for. `allow` must be exactly true; every failure is listed, the first one gives the code.
decision := {
	"allow": true,
	"code": "ok",
	"rule": concat(":", ["grant", input.internal.usual]),
	"exception": "",
	"failures": set(),
	"approvals": set(),
	"redact": data.outrider.authz.redact,
	"reachable": true,
} if {
	input.internal.usual != ""
	count(data.outrider.authz.deny) == 0
	count(data.outrider.authz.approve) == 0
} else := considered

# The decision with everything that speaks for and against the call.
considered := {
	"allow": allow,
	"code": code,
	"rule": rule,
	"exception": exception,
	"failures": failures,
	"approvals": approvals,
	"redact": data.outrider.authz.redact,
	"reachable": reachable,
}

default allow := false

allow if {
	count(failures) == 0
	count(approvals) == 0
}

default code := "policy_error"

code := min(failures)[1].code if {
	count(failures) > 0
} else := "approval_required" if {
	count(approvals) > 0
} else := "ok" if {
	allow
}

default rule := "none"

rule := min(failures)[1].rule if {
	count(failures) > 0
} else := "approve" if {
	count(approvals) > 0
} else := permit

# The number is the precedence of the code: agent, task, scope, classification, then what policy denied.
failures contains [1, {
	"code": agent_code,
	"rule": "guard:agent",
	"reason": agent_code,
	"message": "the agent is not active in the inventory",
}] if {
	agent_code != ""
}

failures contains [2, {
	"code": task_code,
	"rule": "guard:task",
	"reason": task_code,
	"message": "the task is not active",
}] if {
	task_code != ""
}

failures contains [3, {
	"code": "scope_exceeded",
	"rule": "guard:scope",
	"reason": "scope_exceeded",
	"message": "the task does not reach this tool",
}] if {
	not scope_holds
	not excepted
}

failures contains [4, {
	"code": "scope_exceeded",
	"rule": "guard:delegation",
	"reason": "delegation_widened",
	"message": "somebody in the chain of delegation may not do this",
}] if {
	not delegation_holds
}

failures contains [4, {
	"code": "scope_exceeded",
	"rule": "guard:delegation",
	"reason": failed.reason,
	"message": failed.message,
}] if {
	some failed in delegation_failures
}

failures contains [5, {
	"code": "classification_exceeded",
	"rule": "guard:classification",
	"reason": "classification_exceeded",
	"message": "the data is classified above what the task may touch",
}] if {
	not level_holds
	not excepted
}

failures contains [6, {
	"code": "classification_exceeded",
	"rule": "grant",
	"reason": "grant_classification_exceeded",
	"message": "the data is classified above what the grants reach",
}] if {
	not permitted
	outlevelled
	not excepted
}

failures contains [7, {
	"code": "policy_denied",
	"rule": "guard:intent",
	"reason": "intent_not_declared",
	"message": "the intent of the task does not declare this tool",
}] if {
	not intent_holds
	not excepted
}

failures contains [8, {
	"code": "policy_denied",
	"rule": "grant",
	"reason": "grant_missing",
	"message": "no grant and no allow permits this tool",
}] if {
	not permitted
	not outlevelled
	not excepted
}

# The object is handed on as the user wrote it: a malformed one still denies.
failures contains [9, {"code": "policy_denied", "rule": "deny", "denied": denied}] if {
	input.internal.deny == "evaluate"
	some denied in data.outrider.authz.deny
}

approvals contains approval if {
	input.internal.deny == "evaluate"
	some approval in data.outrider.authz.approve
}

# Guards and grants (or allow) would permit this tool, whatever the arguments: its schema is no secret to this caller.
default reachable := false

reachable if {
	agent_code == ""
	task_code == ""
	delegation_holds
	plainly_permitted
}

reachable if {
	agent_code == ""
	task_code == ""
	delegation_holds
	excepted
}
