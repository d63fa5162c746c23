package outrider_test

import data.outrider

agent_id := "spiffe://example.org/agent/triage"

inventory := {agent_id: {
	"id": agent_id,
	"owner": "support@example.org",
	"purpose": "Triage tickets",
	"roles": ["support"],
	"expires": "",
	"expires_ns": 9223372036854775807,
	"state": "active",
}}

intents := {"ticket.triage": {
	"id": "ticket.triage",
	"owner": "",
	"tools": ["tickets/*"],
	"max_classification": "confidential",
}}

grants := {"G": {
	"id": "G",
	"agent": agent_id,
	"role": "",
	"tools": ["tickets/*"],
	"intents": [],
	"max_classification": "",
	"expires": "",
	"expires_ns": 9223372036854775807,
}}

exceptions := {"EX": {
	"id": "EX",
	"lifts": ["grant", "intent", "classification"],
	"expires_ns": 9223372036854775807,
}}

index := {
	"patterns": {"tickets/read": ["tickets/*"], "crm/export": ["crm/export"]},
	"intents": {"ticket.triage": {"tickets/*": true}},
	"grants": {"agent": {agent_id: {"tickets/*": ["G"]}}, "role": {}},
	"exceptions": {"agent": {agent_id: {"crm/export": ["EX"]}}, "role": {}},
}

call := {
	"call": {"phase": "call", "time_ns": 10},
	"agent": {"id": agent_id, "state": "active"},
	"actors": [],
	"task": {
		"id": "t1",
		"state": "active",
		"intent": "ticket.triage",
		"tools": ["tickets/*"],
		"max_classification": "confidential",
		"expires_ns": 20,
	},
	"tool": {"id": "tickets/read", "classification": "internal"},
	"content": {"classification": "internal"},
	"internal": {"covered": true, "allow": "evaluate", "deny": "evaluate", "spent": {}, "usual": ""},
}

decided(input_) := decision if {
	decision := outrider.decision with input as input_
		with data.outrider.agents as inventory
		with data.outrider.intents as intents
		with data.outrider.grants as grants
		with data.outrider.exceptions as exceptions
		with data.outrider.index as index
}

changed(changes) := object.union(call, changes)

test_a_granted_call_is_allowed if {
	decision := decided(call)
	decision.allow
	decision.code == "ok"
	decision.rule == "grant:G"
}

test_an_unknown_agent_is_refused if {
	decision := decided(changed({"agent": {"id": "agent:nobody"}}))
	not decision.allow
	decision.code == "agent_unknown"
}

test_a_revoked_agent_is_refused if {
	decided(changed({"agent": {"state": "revoked"}})).code == "agent_revoked"
}

test_a_suspended_task_is_refused if {
	decided(changed({"task": {"state": "suspended"}})).code == "task_suspended"
}

test_an_expired_task_is_refused if {
	decided(changed({"call": {"time_ns": 20}})).code == "task_expired"
}

test_a_tool_out_of_scope_is_refused if {
	decided(changed({"internal": {"covered": false}, "task": {"tools": ["crm/*"]}})).code == "scope_exceeded"
}

test_too_high_a_level_is_refused if {
	decided(changed({"content": {"classification": "restricted"}})).code == "classification_exceeded"
}

test_an_unknown_level_is_refused if {
	not decided(changed({"content": {"classification": "secret"}})).allow
}

test_a_tool_nobody_grants_is_refused if {
	decision := decided(changed({"tool": {"id": "crm/lookup"}}))
	decision.code == "policy_denied"
	decision.rule == "guard:intent"
}

test_an_exception_lifts_grant_intent_and_level if {
	decision := decided(changed({
		"tool": {"id": "crm/export"},
		"content": {"classification": "restricted"},
	}))
	decision.allow
	decision.exception == "EX"
}

test_a_spent_exception_lifts_nothing if {
	decision := decided(changed({"tool": {"id": "crm/export"}, "internal": {"spent": {"EX": true}}}))
	not decision.allow
	decision.exception == ""
}

test_a_deny_beats_a_grant if {
	denials := {{"reason": "closed", "message": "m"}}
	decision := decided(call) with data.outrider.authz.deny as denials
	not decision.allow
	decision.code == "policy_denied"
}

test_an_allow_permits_where_no_grant_does if {
	decision := decided(call) with data.outrider.authz.allow as true
		with data.outrider.grants as {}
	decision.allow
}

test_an_approve_holds if {
	asked := {{"reason": "four_eyes", "approvers": ["ada"]}}
	decision := decided(call) with data.outrider.authz.approve as asked
	not decision.allow
	decision.code == "approval_required"
}

delegated(chain, more) := decision if {
	decision := outrider.decision with input as changed({"actors": chain})
		with data.outrider.agents as object.union(inventory, {"agent:planner": object.union(inventory[agent_id], more)})
		with data.outrider.intents as intents
		with data.outrider.grants as object.union(grants, {"P": object.union(grants.G, {"agent": "agent:planner"})})
		with data.outrider.index as object.union(
			index,
			{"grants": {"agent": {"agent:planner": {"tickets/*": ["P"]}}}},
		)
}

test_an_actor_that_may_do_it_itself_hands_it_on if {
	delegated([{"id": agent_id}, {"id": "agent:planner"}], {}).code == "ok"
}

test_an_actor_that_may_not_widens if {
	decision := delegated([{"id": agent_id}, {"id": "agent:planner"}, {"id": "agent:other"}], {})
	decision.code == "scope_exceeded"
	decision.rule == "guard:delegation"
}

test_an_actor_that_is_not_active_widens if {
	delegated([{"id": agent_id}, {"id": "agent:planner"}], {"state": "suspended"}).code == "scope_exceeded"
}

test_a_listed_subject_narrows if {
	decision := outrider.decision with input as object.union(call, {"subject": {"id": "user:grace"}})
		with data.outrider.agents as inventory
		with data.outrider.intents as intents
		with data.outrider.grants as grants
		with data.outrider.index as index
		with data.outrider.subjects as {"user:grace": {"max_classification": "restricted", "expires_ns": 20}}
	decision.code == "scope_exceeded"
}
