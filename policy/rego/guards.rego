# The guards: what must hold before anybody's permission counts. Nothing lifts agent, task or delegation.
package outrider

rank := {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}

# While tools are listed there is no content yet, so the tool's own level stands for it.
level := rank[input.tool.classification] if {
	input.call.phase == "list"
} else := rank[input.content.classification]

# --- agent: in the inventory, owned, with a purpose, not expired, active there and here

agent := data.outrider.agents[input.agent.id]

default agent_active := false

agent_active if {
	agent.state == "active"
	input.agent.state == "active"
}

default agent_current := false

agent_current if {
	agent.owner != ""
	agent.purpose != ""
	input.call.time_ns < agent.expires_ns
}

# The code of the refusal, "" when the guard holds. Suspended counts as revoked; without an owner or a purpose nobody
# answers for the agent any more, which counts as expired.
agent_code := "" if {
	agent_active
	agent_current
} else := "agent_unknown" if {
	not agent
} else := "agent_revoked" if {
	not agent_active
} else := "agent_expired"

# --- task: active and not expired; or none at all, where the configuration lets calls pass without one

default no_task := false

no_task if {
	input.task.id == ""
	input.task.state == "none"
}

default task_active := false

task_active if no_task

task_active if {
	input.task.id != ""
	input.task.state == "active"
	input.call.time_ns < input.task.expires_ns
}

task_code := "" if {
	task_active
} else := "task_revoked" if {
	input.task.state in {"revoked", "closed"}
} else := "task_suspended" if {
	input.task.state == "suspended"
} else := "task_expired" if {
	input.task.state in {"active", "expired"}
	input.task.id != ""
} else := "task_invalid"

# --- scope: one of the task's patterns covers the tool (compared by the sidecar: `covered`)

default scope_holds := false

scope_holds if no_task

scope_holds if input.internal.covered == true

# A task that names exactly its intent's tools has not narrowed them: its scope is the intent's. What the tasks it was
# split from do not reach (`within`) is never lifted.
default scope_inherited := false

scope_inherited if {
	input.internal.within == true
	input.task.tools == data.outrider.intents[input.task.intent].tools
}

# --- level: within the task's maximum and its intent's

task_rank := rank[input.task.max_classification]

# An intent that is not in the data has the lowest level.
intent_rank := rank[data.outrider.intents[input.task.intent].max_classification] if {
	data.outrider.intents[input.task.intent]
} else := 0

default level_holds := false

level_holds if no_task

level_holds if {
	level <= task_rank
	level <= intent_rank
}

# What the task narrowed below its intent is the task's own, and no exception lifts it.
default level_liftable := false

level_liftable if task_rank >= intent_rank

level_liftable if level <= task_rank

# --- intent: declares the tool

default intent_holds := false

intent_holds if no_task

intent_holds if {
	some pattern in data.outrider.index.patterns[input.tool.id]
	data.outrider.index.intents[input.task.intent][pattern]
}
