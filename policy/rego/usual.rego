# The usual call in one rule, because a rule for each condition costs more than the condition: every guard of guards.rego
# holds and a grant permits. It knows nothing the other files do not know; whatever it leaves open, `considered` decides,
# and a test holds the two together.
package outrider

# The grant that permits; "" when the call is not a usual one.
default usual := ""

usual := id if {
	input.call.phase == "call"

	# agent
	known := data.outrider.agents[input.agent.id]
	known.state == "active"
	input.agent.state == "active"
	known.owner != ""
	known.purpose != ""
	input.call.time_ns < known.expires_ns

	# task, scope, delegation
	input.task.id != ""
	input.task.state == "active"
	input.call.time_ns < input.task.expires_ns
	input.internal.covered == true
	every actor in input.actors {
		actor.id != ""
	}

	# intent
	intent := data.outrider.intents[input.task.intent]
	patterns := data.outrider.index.patterns[input.tool.id]
	some pattern in patterns
	data.outrider.index.intents[input.task.intent][pattern]

	# level
	ranks := rank
	touched := ranks[input.content.classification]
	touched <= ranks[input.task.max_classification]
	touched <= ranks[intent.max_classification]

	# grant: one of the agent's own, named for this intent and this level
	own := data.outrider.index.grants.agent[input.agent.id]
	ids := [named |
		some place in patterns
		some named in own[place]
		grant := data.outrider.grants[named]
		input.call.time_ns < grant.expires_ns
		input.task.intent in grant.intents
		touched <= ranks[grant.max_classification]
	]
	count(ids) > 0
	id := min(ids)
}
