# Delegation: everybody in the chain may do this, and who is acted for. Nothing lifts it, and no `allow` counts for others.
package outrider

default delegation_holds := false

delegation_holds if {
	every position, actor in input.actors {
		actor.id != ""
		may_hand_on(position, actor.id)
	}
	subject_holds
}

# What is told beside `delegation_widened`.
delegation_failures contains {"reason": "delegation_broken", "message": "an actor of the chain has no name"} if {
	some actor in input.actors
	actor.id == ""
}

delegation_failures contains {"reason": "subject_exceeded", "message": "the one who is acted for may not do this"} if {
	not subject_holds
}

# The nearest actor is the agent that calls: agent, intent and grants are asked about it anyway.
may_hand_on(position, _) if position == 0

may_hand_on(position, id) if {
	position > 0
	id in entitled
}

# Earlier actors that are in the inventory, answered for, and granted this tool for this intent at this level.
entitled contains actor.id if {
	some position, actor in input.actors
	position > 0
	answered_for(data.outrider.agents[actor.id])
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.grants.agent[actor.id][pattern]
	reaches(data.outrider.grants[id])
}

entitled contains actor.id if {
	some position, actor in input.actors
	position > 0
	earlier := data.outrider.agents[actor.id]
	answered_for(earlier)
	some role in earlier.roles
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.grants.role[role][pattern]
	reaches(data.outrider.grants[id])
}

answered_for(known) if {
	known.state == "active"
	known.owner != ""
	known.purpose != ""
	input.call.time_ns < known.expires_ns
}

reaches(grant) if {
	input.call.time_ns < grant.expires_ns
	for_intent(grant)
	reachable_level := reach(grant)
	level <= reachable_level
}

# Whom the data does not list it does not narrow.
default subject_listed := false

subject_listed if data.outrider.subjects[input.subject.id]

default subject_holds := false

subject_holds if not subject_listed

subject_holds if {
	subject := data.outrider.subjects[input.subject.id]
	input.call.time_ns < subject.expires_ns
	some pattern in data.outrider.index.patterns[input.tool.id]
	data.outrider.index.subjects[input.subject.id][pattern]
	level <= rank[subject.max_classification]
}
