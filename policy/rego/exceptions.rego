# What a recorded, owned, expiring exception lifts: `grant`, `intent`, `classification`; nothing else.
package outrider

exception_candidates contains id if {
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.exceptions.agent[input.agent.id][pattern]
}

exception_candidates contains id if {
	some role in agent.roles
	some pattern in data.outrider.index.patterns[input.tool.id]
	some id in data.outrider.index.exceptions.role[role][pattern]
}

# An intent's tools and level are lifted with it; what the task itself narrowed is not.
frees_scope(_) if scope_holds

frees_scope(lifts) if {
	"intent" in lifts
	scope_inherited
}

frees_intent(_) if intent_holds

frees_intent(lifts) if "intent" in lifts

frees_level(_) if level_holds

frees_level(lifts) if {
	"classification" in lifts
	level_liftable
}

frees_grant(_) if permitted

frees_grant(lifts) if {
	"grant" in lifts
	level <= rank[input.tool.classification]
}

frees_grant(lifts) if {
	"grant" in lifts
	"classification" in lifts
}

frees_grant(lifts) if {
	"classification" in lifts
	outlevelled
}

# The exceptions any one of which makes this call permitted.
sufficient contains id if {
	not plainly_permitted
	some id in exception_candidates
	not input.internal.spent[id]
	granted := data.outrider.exceptions[id]
	input.call.time_ns < granted.expires_ns
	frees_scope(granted.lifts)
	frees_intent(granted.lifts)
	frees_level(granted.lifts)
	frees_grant(granted.lifts)
}

default excepted := false

excepted if count(sufficient) > 0

# The one that is used; "" when none is needed or none suffices.
default exception := ""

exception := min(sufficient) if excepted
