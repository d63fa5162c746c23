# Who permits: a grant for the agent or one of its roles, or the user's `allow`.
package outrider

# Only what concerns this agent and this tool is looked at, however many grants there are.
grant_candidates contains id if {
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.grants.agent[input.agent.id][pattern]
}

grant_candidates contains id if {
	some role in agent.roles
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.grants.role[role][pattern]
}

for_intent(grant) if grant.intents == []

for_intent(grant) if input.task.intent in grant.intents

# A grant without a level of its own reaches the tool's.
reach(grant) := rank[grant.max_classification] if {
	grant.max_classification != ""
} else := rank[input.tool.classification]

grants_in_force contains id if {
	some id in grant_candidates
	grant := data.outrider.grants[id]
	input.call.time_ns < grant.expires_ns
	for_intent(grant)
}

grants_in_reach contains id if {
	some id in grants_in_force
	grant := data.outrider.grants[id]
	reachable_level := reach(grant)
	level <= reachable_level
}

# A grant fits but for its level.
default outlevelled := false

outlevelled if {
	count(grants_in_force) > 0
	count(grants_in_reach) == 0
}

default user_allows := false

user_allows if {
	input.internal.allow == "evaluate"
	data.outrider.authz.allow == true
}

# While tools are listed, an `allow` that reads arguments cannot be asked: it might say yes.
user_allows if input.internal.allow == "assume"

default permitted := false

permitted if count(grants_in_reach) > 0

permitted if user_allows

default plainly_permitted := false

plainly_permitted if {
	scope_holds
	level_holds
	intent_holds
	permitted
}

# Which permission was used, for the record: of several grants the agent's own, made for this intent and level.
default permit := "none"

permit := concat(":", ["exception", exception]) if {
	excepted
} else := concat(":", ["grant", input.internal.usual]) if {
	input.internal.usual != ""
} else := concat(":", ["grant", min(grants_in_reach)]) if {
	count(grants_in_reach) > 0
} else := "allow" if {
	user_allows
}
