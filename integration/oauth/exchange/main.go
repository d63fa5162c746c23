// An OpenID provider of github.com/zitadel/oidc that exchanges tokens (RFC 8693): its own example server and storage,
// which are told how to trust a sidecar's JWTs.
//
//	exchange PORT USERS.json KEYS.json AGENT
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// trusting adds to the example's storage whose JWTs may be exchanged.
type trusting struct {
	*storage.Storage
	keys     jose.JSONWebKeySet
	agent    string
	audience string
}

func (t *trusting) VerifyExchangeSubjectToken(_ context.Context, token string, kind oidc.TokenType) (string, string, map[string]any, error) {
	claims, err := t.verify(token, kind, "outrider-subject+jwt")
	if err != nil {
		return "", "", nil, err
	}
	may, _ := claims["may_act"].(map[string]any)
	if may["sub"] != t.agent {
		return "", "", nil, errors.New("the agent may not act")
	}
	return token, claims["sub"].(string), claims, nil
}

func (t *trusting) VerifyExchangeActorToken(_ context.Context, token string, kind oidc.TokenType) (string, string, map[string]any, error) {
	claims, err := t.verify(token, kind, "outrider-actor+jwt")
	if err != nil {
		return "", "", nil, err
	}
	if claims["sub"] != t.agent {
		return "", "", nil, errors.New("another actor")
	}
	return token, t.agent, claims, nil
}

func (t *trusting) verify(token string, kind oidc.TokenType, typ string) (map[string]any, error) {
	if kind != oidc.JWTTokenType {
		return nil, fmt.Errorf("not a JWT: %s", kind)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.RS256})
	if err != nil {
		return nil, err
	}
	if found := parsed.Headers[0].ExtraHeaders[jose.HeaderType]; found != typ {
		return nil, fmt.Errorf("typ is %v", found)
	}
	keys := t.keys.Key(parsed.Headers[0].KeyID)
	if len(keys) != 1 {
		return nil, errors.New("an unknown key")
	}
	var registered jwt.Claims
	claims := map[string]any{}
	if err := parsed.Claims(keys[0].Key, &registered, &claims); err != nil {
		return nil, err
	}
	expected := jwt.Expected{Issuer: t.agent, AnyAudience: jwt.Audience{t.audience}, Time: time.Now()}
	if err := registered.Validate(expected); err != nil {
		return nil, err
	}
	if registered.Expiry == nil || registered.ID == "" || registered.Subject == "" {
		return nil, errors.New("exp, jti and sub are required")
	}
	return claims, nil
}

func main() {
	port, users, keys, agent := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	issuer := fmt.Sprintf("http://127.0.0.1:%s/", port)
	store, err := storage.StoreFromFile(users)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(keys)
	if err != nil {
		log.Fatal(err)
	}
	// The sidecar's client may exchange; `api` asks what a token is good for.
	storage.RegisterClients(storage.WebClient("outrider", "s3cret of/the:client"), storage.WebClient("api", "secret"))
	trusting := &trusting{Storage: storage.NewStorage(store), agent: agent, audience: issuer + "oauth/token"}
	if err := json.Unmarshal(text, &trusting.keys); err != nil {
		log.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	router := exampleop.SetupServer(issuer, trusting, logger, false)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, router))
}
