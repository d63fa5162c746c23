//! What a task token of another issuer costs: when it is first shown, and after that.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a bench")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use jiff::Timestamp;
use outrider::{
    identify::{
        Proof, Required,
        issuers::{Bearer, Issuers, Section},
        task,
    },
    keys::SigningKey,
    state::{Authority, Tasks, token_digest},
};
use outrider_integration::{IssuerKey, key_set, task_claims};
use serde_json::json;

const ISSUER: &str = "https://iam.example.org";
const AGENT: &str = "spiffe://example.org/agent/test";

fn external(c: &mut Criterion) {
    let mut group = c.benchmark_group("token of another issuer");
    for algorithm in ["EdDSA", "ES256", "RS256", "PS256"] {
        let key = IssuerKey::new(algorithm, "k");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        std::fs::write(&path, key_set([&key]).to_string()).unwrap();
        let section: Section =
            serde_json::from_value(json!({"issuer": ISSUER, "jwks": "file:keys.json"})).unwrap();
        let issuer = section.open(|_| path.clone()).unwrap();
        let issuers = Issuers::new(vec![issuer]);
        let token = key.sign(&task_claims(ISSUER, "t"));
        let (bearer, now) = (
            Bearer {
                agent: AGENT,
                depth: 4,
            },
            Timestamp::now(),
        );
        group.bench_function(format!("first seen ({algorithm})"), |b| {
            b.iter(|| {
                let token = black_box(token.as_bytes());
                issuers
                    .verify(token, &token_digest(token), bearer, now)
                    .unwrap()
            });
        });
        let tasks = Tasks::new("outrider:bench", SigningKey::generate().unwrap());
        let authority = Authority::new(AGENT.into(), Arc::new(tasks));
        let proof = Proof {
            authority: &authority,
            issuers: &issuers,
            bearer,
            reach: &|_| None,
            now,
        };
        let presented = [HeaderValue::from_str(&token).unwrap()];
        group.bench_function(format!("known ({algorithm})"), |b| {
            b.iter(|| task(black_box(&presented), "reverse", &proof, Required::Yes).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, external);
criterion_main!(benches);
