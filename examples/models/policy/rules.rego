package outrider.authz

# A grant of `openai/POST` is a grant of every POST there: uploads, fine-tuning and billing too. These paths are served.
model_paths := {
	"openai": {"/v1/chat/completions", "/v1/responses", "/v1/embeddings"},
	"anthropic": {"/v1/messages", "/v1/messages/count_tokens"},
}

default on_a_model_path := false

on_a_model_path if input.call.path in model_paths[input.tool.service]

deny contains {
	"reason": "model_path",
	"message": "a path of a model's API that is not served",
	"public": "Only completions, messages and embeddings are served.",
} if {
	input.tool.kind == "model"
	not on_a_model_path
}
