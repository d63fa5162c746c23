package outrider.authz

# A refund is promised by a person. `reason` goes into the record; only `public` reaches the agent.
deny contains {
	"reason": "refund_promised",
	"message": "a note to a customer mentions a refund",
	"public": "Refunds are promised by people. Leave this ticket to the support lead.",
} if {
	input.tool.id == "tickets/update_ticket"
	contains(lower(input.call.arguments.note), "refund")
}
