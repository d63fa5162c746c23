# What users may define in this package. Empty definitions, so that data alone can decide.
package outrider.authz

# Refuses the call whatever permits it: {"reason": "…", "message": "…", "public": "…"}.
deny contains {} if false

# Holds the call for a person: {"reason": "…", "approvers": ["…"], "ttl": "15m"}.
approve contains {} if false

# Pointers into the call that the record must not show: "/arguments/email".
redact contains "" if false
