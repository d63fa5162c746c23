use std::{path::Path, time::Duration};

use outrider_integration::{Authority, Leaf, Svids, WorkloadApi};
use secrecy::ExposeSecret as _;

use super::*;
use crate::{
    identify::agent::{JwtSvid, Keeper, NoJwtSvid, Settings, Unattested},
    svid::CurrentSvid,
};

const AGENT: &str = "spiffe://example.org/agent/triage";

fn api(directory: &Path) -> WorkloadApi {
    WorkloadApi::start(&directory.join("api.sock"))
}

fn known(api: &WorkloadApi) {
    let authority = Authority::new();
    let svid = authority.sign(&Leaf::svid(AGENT));
    api.give(&Svids::none().with(AGENT, &svid, &authority.der()));
}

fn kept(api: &WorkloadApi) -> (Arc<Identity>, Keeper) {
    let endpoint = Endpoint::try_from(api.endpoint()).unwrap();
    let id = SpiffeId::parse(AGENT).unwrap();
    let settings = Settings::Spiffe(id, endpoint);
    let svid = CurrentSvid::default();
    Keeper::start(AGENT.into(), settings, svid, Box::new(|_| {})).unwrap()
}

async fn proved(identity: &Identity) {
    tokio::time::timeout(Duration::from_secs(20), identity.proved())
        .await
        .expect("the identity is proved");
}

fn fetched(api: &WorkloadApi) -> usize {
    let asked = api.asked().into_iter();
    asked
        .filter(|method| method.ends_with("FetchJWTSVID"))
        .count()
}

fn text(token: &JwtSvid) -> &str {
    token.token.expose_secret()
}

#[tokio::test(flavor = "current_thread")]
async fn a_jwt_svid_is_fetched_once_for_each_audience_while_it_lives() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(directory.path());
    known(&api);
    let (identity, _keeper) = kept(&api);
    proved(&identity).await;
    let asks = (0..20).map(|_| identity.jwt_svid("https://one.test"));
    let mut tokens = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        tokens.push(ask.await.unwrap());
    }
    assert!(tokens.iter().all(|token| Arc::ptr_eq(token, &tokens[0])));
    assert_eq!(fetched(&api), 1);
    let other = identity.jwt_svid("https://other.test").await.unwrap();
    assert_ne!(text(&other), text(&tokens[0]));
    assert_eq!(fetched(&api), 2);

    api.tokens_live(Duration::from_secs(20));
    let brief = identity.jwt_svid("https://brief.test").await.unwrap();
    let again = identity.jwt_svid("https://brief.test").await.unwrap();
    assert_ne!(
        text(&brief),
        text(&again),
        "one that is about to expire is not given out again"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn without_an_identity_no_jwt_svid_is_given_out_though_one_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(directory.path());
    let (identity, _keeper) = kept(&api);
    let none = identity.jwt_svid("a").await;
    assert_eq!(
        none.unwrap_err(),
        NoJwtSvid::Unattested(Unattested::Missing)
    );
    known(&api);
    proved(&identity).await;
    identity.jwt_svid("a").await.unwrap();
    api.deny();
    while identity.check().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let none = identity.jwt_svid("a").await;
    assert_eq!(
        none.unwrap_err(),
        NoJwtSvid::Unattested(Unattested::Invalid)
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_jwt_svid_that_the_bundle_does_not_verify_is_not_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(directory.path());
    known(&api);
    let (identity, _keeper) = kept(&api);
    proved(&identity).await;
    api.forge_tokens();
    let none = identity.jwt_svid("a").await;
    assert_eq!(none.unwrap_err(), NoJwtSvid::NotGiven);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_kept_ends_with_its_keeper() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(directory.path());
    known(&api);
    let (identity, keeper) = kept(&api);
    proved(&identity).await;
    drop(keeper);
    let none = identity.jwt_svid("a").await;
    assert!(matches!(none, Err(NoJwtSvid::NotGiven | NoJwtSvid::Busy)));
    let fixed = Identity::fixed(AGENT.into()).jwt_svid("a").await;
    assert_eq!(fixed.unwrap_err(), NoJwtSvid::Source);
}

/// Against a Workload API that nobody here wrote; `integration/spiffe/run` has one.
#[expect(clippy::print_stdout, reason = "says when it is skipped")]
#[tokio::test(flavor = "current_thread")]
async fn a_real_workload_api_gives_jwt_svids() {
    let named = |name| std::env::var(name).ok();
    let real = named("OUTRIDER_TEST_WORKLOAD_API").zip(named("OUTRIDER_TEST_SPIFFE_ID"));
    let Some((endpoint, id)) = real else {
        println!(
            "skipped: OUTRIDER_TEST_WORKLOAD_API and OUTRIDER_TEST_SPIFFE_ID name no Workload API"
        );
        return;
    };
    let settings = Settings::Spiffe(SpiffeId::parse(&id).unwrap(), endpoint.try_into().unwrap());
    let svid = CurrentSvid::default();
    let (identity, _keeper) =
        Keeper::start(id.as_str().into(), settings, svid, Box::new(|_| {})).unwrap();
    proved(&identity).await;
    let token = identity.jwt_svid("https://tools.test").await.unwrap();
    assert!(token.expires > Timestamp::now());
    println!("fetched, good until {}", token.expires);
}
