use super::*;

fn store(text: &str) -> Result<Store, BadStore> {
    Store::try_from(text.to_owned())
}

fn section(yaml: &str) -> Section {
    serde_saphyr::from_str(yaml).unwrap()
}

fn settled(yaml: &str) -> Result<Option<Settings>, BadState> {
    section(yaml).settings(Path::new("."), |_| Some("secret".into()))
}

#[test]
fn an_address_says_where_as_whom_and_never_the_password() {
    let Store::Redis(address) = store("rediss://me:p%40ss@redis.example.org/3").unwrap() else {
        panic!("a store");
    };
    assert_eq!(
        format!("{address:?}"),
        "rediss://me@redis.example.org:6379/3"
    );
    assert_eq!(address.password.unwrap().expose_secret(), "p@ss");
}

#[test]
fn what_is_no_address_is_refused() {
    for bad in [
        "",
        "redis",
        "redis://",
        "redis:///0",
        "redis://host/x",
        "redis://host:port",
        "http://host",
        "file:",
        "redis://a%4@host",
        "redis://host/0/1",
    ] {
        assert_eq!(store(bad).unwrap_err(), BadStore::Unknown, "{bad}");
    }
}

#[test]
fn a_local_share_is_a_share_of_how_many() {
    let away = "store: redis://localhost\non_failure: local_share\n";
    assert!(matches!(settled(away), Err(BadState::HowMany)));
    let settings = settled(&format!("{away}sidecars: 4\n")).unwrap().unwrap();
    assert!(matches!(settings.on_failure, OnFailure::LocalShare(n) if n.get() == 4));
}

#[test]
fn keys_of_a_shared_store_are_refused_without_one() {
    assert!(matches!(
        settled("prefix: x\n"),
        Err(BadState::NotShared("prefix"))
    ));
    assert!(matches!(
        settled("on_failure: local_share\n"),
        Err(BadState::NeverAway)
    ));
    assert!(settled("store: memory\n").unwrap().is_none());
}

#[test]
fn a_password_comes_from_its_place_and_is_never_printed() {
    let yaml = "store: redis://me@localhost\npassword: \"${env:PASSWORD}\"\n";
    let settings = settled(yaml).unwrap().unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
    assert_eq!(settings.password.unwrap().expose_secret(), "secret");
    let two = "store: redis://me:x@localhost\npassword: y\n";
    assert!(matches!(settled(two), Err(BadState::TwoPasswords)));
}
