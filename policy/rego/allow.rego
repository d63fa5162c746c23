# Permits a call that no grant permits. Left out when the user's own rules bring this default.
package outrider.authz

default allow := false
