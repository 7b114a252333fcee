//! What the verbs on accounts promise, on both engines.

use std::{net::IpAddr, sync::Arc, time::Duration};

use reef_auth::{Caller, Credential, SecretBox, SecretString, ServerKey, api_key::hash_presented};
use reef_db::{AuditFilter, Db, Page, Wake};
use reef_model::{
    ActorKind, ApiKeyId, InstanceId, InviteId, ManualClock, Plan, Revoked, Role, Scope, Scopes, Timestamp,
    UserId,
};
use reef_testdb::{TestDatabase, both_engines};
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
};

use super::*;

struct World {
    db: Db,
    clock: Arc<ManualClock>,
    accounts: Accounts,
}

impl World {
    async fn open(database: &TestDatabase) -> Self {
        let db = Db::connect(database.url(), 8).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_micros(1_775_272_200_000_000)));
        let accounts = Accounts::new(db.clone(), clock.clone(), SecretBox::new(&ServerKey::generate(), &[]));
        Self { db, clock, accounts }
    }

    async fn user(&self, email: &str) -> Actor {
        let user = self.accounts.sign_up(wish(email, None), &client()).await.unwrap();
        actor(user.id)
    }

    async fn operator(&self) -> Actor {
        actor(self.accounts.ensure_operator(None, Some(password())).await.unwrap().user.id)
    }

    async fn actions(&self, tenant: UserId) -> Vec<String> {
        let rows = self.db.list_audit(tenant, &AuditFilter::default(), Page::first(100)).await.unwrap();
        rows.into_iter().rev().map(|row| row.action).collect()
    }

    async fn revoked(&self) -> Vec<uuid::Uuid> {
        self.db.list_revocations(0, 100).await.unwrap().into_iter().map(|row| row.subject_id).collect()
    }
}

fn password() -> SecretString {
    "correct horse".into()
}

fn wish(email: &str, invite_code: Option<String>) -> SignUp {
    SignUp { email: email.into(), password: password(), name: None, invite_code }
}

fn client() -> Client {
    Client { ip: Some(ip("192.0.2.7")), user_agent: Some("test".repeat(100)), request_id: Some("req".into()) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn actor(user: UserId) -> Actor {
    Actor::signing_in(user, &client())
}

fn named(name: &str) -> NewKey {
    NewKey { name: name.into(), ..Default::default() }
}

both_engines! {
    async fn an_account_is_made_once_and_signs_in(database: TestDatabase) {
        let world = World::open(&database).await;
        let accounts = &world.accounts;
        let user = accounts.sign_up(wish(" Ann@Example.org", None), &client()).await.unwrap();
        assert_eq!((user.email.as_str(), user.role), ("ann@example.org", Role::User));
        let again = accounts.sign_up(wish("ann@example.ORG", None), &client()).await;
        assert!(matches!(again, Err(ControlError::Conflict(_))), "{again:?}");
        for (email, password, field) in [("nobody", "correct horse", "email"), ("b@x.test", "short", "password")] {
            let wish = SignUp { password: password.into(), ..wish(email, None) };
            let refused = accounts.sign_up(wish, &client()).await;
            assert!(matches!(refused, Err(ControlError::Invalid { field: f, .. }) if f == field), "{refused:?}");
        }

        assert_eq!(accounts.sign_in("ANN@example.org", password(), &client()).await.unwrap().id, user.id);
        for (email, password) in [("ann@example.org", "wrong horse"), ("x@x.test", "correct horse"), ("", "")] {
            let refused = accounts.sign_in(email, password.into(), &client()).await;
            assert!(matches!(refused, Err(ControlError::BadCredentials)), "{refused:?}");
        }
        assert_eq!(world.actions(user.id).await, ["account.sign_up", "account.sign_in"]);
    }

    async fn the_first_operator_is_made_once(database: TestDatabase) {
        let world = World::open(&database).await;
        let racing: Vec<_> = (0..4).map(|_| {
            let accounts = world.accounts.clone();
            tokio::spawn(async move { accounts.ensure_operator(None, None).await.unwrap() })
        }).collect();
        let mut made = Vec::new();
        for task in racing {
            made.extend(task.await.unwrap().made_password);
        }
        assert_eq!(made.len(), 1, "one of them may print a password");
        let operator = world.accounts.sign_in(DEFAULT_OPERATOR_EMAIL, made.remove(0), &client()).await.unwrap();
        assert_eq!(operator.role, Role::Operator);
    }

    async fn an_ordinary_account_does_not_become_the_operator(database: TestDatabase) {
        let world = World::open(&database).await;
        world.user("ops@x.test").await;
        let refused = world.accounts.ensure_operator(Some("ops@x.test"), Some(password())).await;
        assert!(matches!(refused, Err(ControlError::Conflict(_))), "{refused:?}");
    }

    async fn a_one_use_code_makes_one_entitlement(database: TestDatabase) {
        let world = World::open(&database).await;
        let operator = world.operator().await;
        let terms = InviteTerms { plan: Plan::Solo, max_uses: 1, expires_at: None };
        let (invite, code) = world.accounts.create_invite(&operator, terms).await.unwrap();
        assert!(code.expose().ends_with(&invite.code_hint));
        let mut users = Vec::new();
        for n in 0..8 {
            users.push(world.user(&format!("u{n}@x.test")).await);
        }
        let racing: Vec<_> = users.iter().cloned().map(|user| {
            let (accounts, code) = (world.accounts.clone(), code.expose().to_lowercase());
            tokio::spawn(async move { accounts.redeem_invite(&user, &code).await })
        }).collect();
        let mut won = Vec::new();
        for task in racing {
            match task.await.unwrap() {
                Ok(entitlement) => won.push(entitlement),
                Err(error) => assert!(matches!(error, ControlError::InviteInvalid), "{error:?}"),
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!((won[0].plan, won[0].instance_id), (Plan::Solo, None));
        assert_eq!(world.actions(won[0].user_id).await.last().unwrap(), "invite.redeem");

        // Signing up with the used code leaves no account behind.
        let refused = world.accounts.sign_up(wish("late@x.test", Some(code.expose())), &client()).await;
        assert!(matches!(refused, Err(ControlError::InviteInvalid)), "{refused:?}");
        assert!(world.db.lookup_user_by_email("late@x.test").await.unwrap().is_none());
    }

    async fn an_invite_ends(database: TestDatabase) {
        let world = World::open(&database).await;
        let operator = world.operator().await;
        let until = world.accounts.now() + Duration::from_secs(60);
        let terms = InviteTerms { plan: Plan::Free, max_uses: 5, expires_at: Some(until) };
        let (_, expiring) = world.accounts.create_invite(&operator, terms).await.unwrap();
        let (withdrawn, code) = world.accounts.create_invite(&operator, terms).await.unwrap();
        let user = world.accounts.sign_up(wish("a@x.test", Some(code.expose())), &client()).await.unwrap();
        assert_eq!(world.db.list_entitlements(user.id, Page::first(9)).await.unwrap().len(), 1);
        world.accounts.revoke_invite(&operator, withdrawn.id).await.unwrap();
        let missing = world.accounts.revoke_invite(&operator, InviteId::generate()).await;
        assert!(matches!(missing, Err(ControlError::NotFound)));
        world.clock.set(until);
        for code in [expiring.expose(), code.expose(), "nonsense".into()] {
            let refused = world.accounts.redeem_invite(&actor(user.id), &code).await;
            assert!(matches!(refused, Err(ControlError::InviteInvalid)), "{refused:?}");
        }
        for bad in [InviteTerms { max_uses: 0, ..terms }, terms] {
            let refused = world.accounts.create_invite(&operator, bad).await;
            assert!(matches!(refused, Err(ControlError::Invalid { .. })), "{refused:?}");
        }
    }

    async fn a_key_is_minted_used_rotated_and_revoked(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let (row, secret) = accounts.mint_key(&user, Scopes::all(), named(" ci ")).await.unwrap();
        assert_eq!((row.name.as_str(), row.scopes), ("ci", Scopes::key_default()));
        assert!(secret.expose().starts_with(&row.prefix) && secret.expose().ends_with(&row.last4));

        let hash = hash_presented(secret.expose()).unwrap();
        let record = accounts.lookup_key(&hash).await.unwrap().unwrap();
        let expected = Caller { tenant: user.tenant, role: Role::User, credential: Credential::Key(row.id),
            scopes: Scopes::key_default(), instances: None };
        assert_eq!(record.caller(), &expected);
        assert_eq!(record.admits(ip("::1"), accounts.now()), Ok(()));
        assert!(accounts.lookup_key(&[0; 32]).await.unwrap().is_none());

        accounts.record_use(Credential::Key(row.id), Some(ip("2001:db8::9")));
        assert_eq!(accounts.flush_uses().await.unwrap(), 1);
        assert_eq!(accounts.flush_uses().await.unwrap(), 0);
        let used = world.db.lookup_api_key(user.tenant, row.id).await.unwrap().unwrap();
        assert_eq!((used.last_used_at, used.last_used_ip.as_deref()), (Some(accounts.now()), Some("2001:db8::9")));

        let overlap = Duration::from_secs(60);
        let rotated = accounts.rotate_key(&user, Scopes::all(), row.id, overlap).await.unwrap();
        let old_end = rotated.old.unwrap().expires_at.unwrap();
        assert_eq!((old_end, rotated.new.expires_at), (accounts.now() + overlap, None));
        assert_eq!(rotated.new.scopes, row.scopes);
        let old = accounts.lookup_key(&hash).await.unwrap().unwrap();
        assert_eq!(old.admits(ip("::1"), accounts.now()), Ok(()));
        assert_eq!(old.admits(ip("::1"), old_end), Err(KeyRefused::Expired));
        assert!(accounts.is_live(user.tenant, Credential::Key(row.id)).await.unwrap());
        world.clock.set(old_end);
        assert!(!accounts.is_live(user.tenant, Credential::Key(row.id)).await.unwrap());
        let late = accounts.rotate_key(&user, Scopes::all(), row.id, overlap).await;
        assert!(matches!(late, Err(ControlError::Conflict(_))), "{late:?}");

        let new = rotated.new.id;
        accounts.revoke_key(&user, new).await.unwrap();
        assert!(accounts.lookup_key(&rotated.secret.hash()).await.unwrap().is_none());
        assert!(matches!(accounts.revoke_key(&user, new).await, Err(ControlError::NotFound)));
        assert_eq!(world.revoked().await, [row.id.as_uuid(), new.as_uuid()]);
        assert_eq!(world.actions(user.tenant).await, ["account.sign_up", "key.create", "key.rotate", "key.revoke"]);
    }

    async fn rotation_without_overlap_ends_the_old_key_at_once(database: TestDatabase) {
        let world = World::open(&database).await;
        let user = world.user("a@x.test").await;
        let (row, secret) = world.accounts.mint_key(&user, Scopes::all(), named("k")).await.unwrap();
        let rotated = world.accounts.rotate_key(&user, Scopes::all(), row.id, Duration::ZERO).await.unwrap();
        assert!(rotated.old.is_none());
        assert!(world.accounts.lookup_key(&secret.hash()).await.unwrap().is_none());
        assert!(world.accounts.lookup_key(&rotated.secret.hash()).await.unwrap().is_some());
        let long = world.accounts.rotate_key(&user, Scopes::all(), rotated.new.id, Duration::from_secs(604_801)).await;
        assert!(matches!(long, Err(ControlError::Invalid { field: "overlap_seconds", .. })));
    }

    async fn a_key_gives_no_more_than_its_maker_has(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let own = Scopes::from_iter([Scope::Account, Scope::Chat]);
        let (row, _) = accounts.mint_key(&user, own, named("k")).await.unwrap();
        assert_eq!(row.scopes, Scopes::from_iter([Scope::Chat]), "the default is cut to what the maker has");
        let more = NewKey { scopes: Some(Scopes::from_iter([Scope::Files])), ..named("k") };
        let refused = accounts.mint_key(&user, own, more).await;
        assert!(matches!(refused, Err(ControlError::Invalid { field: "scopes", .. })), "{refused:?}");

        let (strong, _) = accounts.mint_key(&user, Scopes::all(), named("strong")).await.unwrap();
        let rename = PatchKey { name: Some("renamed".into()), ..Default::default() };
        assert_eq!(accounts.patch_key(&user, own, strong.id, rename).await.unwrap().name, "renamed");
        assert!(world.revoked().await.is_empty(), "a name is no right");
        let forever = PatchKey { expires_at: Some(None), ..Default::default() };
        assert!(accounts.patch_key(&user, own, strong.id, forever.clone()).await.is_err());
        assert!(accounts.rotate_key(&user, own, strong.id, Duration::ZERO).await.is_err());
        accounts.patch_key(&user, Scopes::all(), strong.id, forever).await.unwrap();
        assert_eq!(world.revoked().await, [strong.id.as_uuid()]);
    }

    async fn a_key_gives_no_longer_and_from_no_more_places_than_it_may_itself(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let end = accounts.now() + Duration::from_secs(3600);
        let scopes = Some(Scopes::from_iter([Scope::Account]));
        let limits = NewKey { scopes, expires_at: Some(end), ip_allow: Some(vec!["10.0.0.0/8".into()]), ..named("k") };
        let (own, secret) = accounts.mint_key(&user, Scopes::all(), limits).await.unwrap();
        let may_give = accounts.lookup_key(&secret.hash()).await.unwrap().unwrap().grant();

        let plain = NewKey { scopes, ..named("heir") };
        let (heir, _) = accounts.mint_key(&user, may_give.clone(), plain.clone()).await.unwrap();
        assert_eq!((heir.expires_at, &heir.ip_allow), (own.expires_at, &own.ip_allow), "what is left out is inherited");
        let later = NewKey { expires_at: Some(end + Duration::from_secs(1)), ..plain.clone() };
        let wider = NewKey { ip_allow: Some(vec!["10.1.0.0/16".into(), "11.0.0.1".into()]), ..plain.clone() };
        for (field, wish) in [("expires_at", later), ("ip_allow", wider)] {
            let refused = accounts.mint_key(&user, may_give.clone(), wish).await;
            assert!(matches!(refused, Err(ControlError::Invalid { field: f, .. }) if f == field), "{field}: {refused:?}");
        }
        let lift = PatchKey { expires_at: Some(None), ..Default::default() };
        assert!(accounts.patch_key(&user, may_give.clone(), own.id, lift).await.is_err());
        let (free, _) = accounts.mint_key(&user, Scopes::all(), plain).await.unwrap();
        assert!(accounts.rotate_key(&user, may_give.clone(), free.id, Duration::ZERO).await.is_err());
        accounts.rotate_key(&user, may_give, own.id, Duration::ZERO).await.unwrap();
    }

    async fn limits_of_a_key_are_checked_and_kept(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let past = accounts.now();
        let bad = [
            ("name", NewKey { name: " ".into(), ..Default::default() }),
            ("scopes", NewKey { scopes: Some(Scopes::NONE), ..named("k") }),
            ("instance_ids", NewKey { instance_ids: Some(vec![]), ..named("k") }),
            ("instance_ids", NewKey { instance_ids: Some(vec![InstanceId::generate()]), ..named("k") }),
            ("ip_allow", NewKey { ip_allow: Some(vec!["10.0.0.0/99".into()]), ..named("k") }),
            ("expires_at", NewKey { expires_at: Some(past), ..named("k") }),
        ];
        for (field, wish) in bad {
            let refused = accounts.mint_key(&user, Scopes::all(), wish).await;
            assert!(matches!(refused, Err(ControlError::Invalid { field: f, .. }) if f == field), "{field}: {refused:?}");
        }
        let blocks = NewKey { ip_allow: Some(vec!["10.1.2.3/8".into()]), ..named("k") };
        let (row, secret) = accounts.mint_key(&user, Scopes::all(), blocks).await.unwrap();
        let record = accounts.lookup_key(&secret.hash()).await.unwrap().unwrap();
        assert_eq!(record.admits(ip("10.9.9.9"), past), Ok(()));
        assert_eq!(record.admits(ip("11.9.9.9"), past), Err(KeyRefused::Address));
        let anywhere = PatchKey { ip_allow: Some(None), scopes: Some(Scopes::from_iter([Scope::Chat])), ..Default::default() };
        let row = accounts.patch_key(&user, Scopes::all(), row.id, anywhere).await.unwrap();
        assert_eq!((row.ip_allow, row.scopes), (None, Scopes::from_iter([Scope::Chat])));
    }

    async fn another_tenants_things_are_not_there(database: TestDatabase) {
        let world = World::open(&database).await;
        let (owner, other) = (world.user("a@x.test").await, world.user("b@x.test").await);
        let accounts = &world.accounts;
        let (key, _) = accounts.mint_key(&owner, Scopes::all(), named("k")).await.unwrap();
        let not_found = |result: Result<(), ControlError>| assert!(matches!(result, Err(ControlError::NotFound)));
        for id in [key.id, ApiKeyId::generate()] {
            not_found(accounts.revoke_key(&other, id).await);
            not_found(accounts.patch_key(&other, Scopes::all(), id, PatchKey::default()).await.map(drop));
            not_found(accounts.rotate_key(&other, Scopes::all(), id, Duration::ZERO).await.map(drop));
        }
        assert!(!accounts.is_live(other.tenant, Credential::Key(key.id)).await.unwrap());
        assert!(world.db.list_api_keys(other.tenant, Page::first(9)).await.unwrap().is_empty());
        let session = signed_in_session(&world, owner.tenant).await;
        not_found(accounts.end_session(&other, session.1.session).await);
        assert_eq!(accounts.end_other_sessions(&other, None).await.unwrap(), 0);
        assert!(world.revoked().await.is_empty());
    }

    async fn a_session_is_stored_hashed_and_ends_everywhere(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let store = accounts.session_store();
        let (mut record, signed_in) = signed_in_session(&world, user.tenant).await;
        assert_eq!(store.load(&record.id).await.unwrap().as_ref(), Some(&record));
        let listed = world.db.list_sessions(user.tenant, accounts.now(), Page::first(9)).await.unwrap();
        assert_eq!((listed[0].id, listed[0].ip.as_deref()), (signed_in.session, Some("192.0.2.7")));
        assert_eq!(listed[0].user_agent.as_ref().unwrap().len(), 300);
        let (caller, ends_at) =
            accounts.session_caller(user.tenant, signed_in.session).await.unwrap().unwrap();
        assert_eq!(ends_at, record.expiry_date.into());
        assert_eq!((caller.scopes, Actor::of(&caller, &client()).kind), (Scopes::all(), ActorKind::User));

        accounts.record_use(caller.credential, None);
        world.clock.advance(Duration::from_secs(5));
        accounts.record_use(caller.credential, None);
        accounts.flush_uses().await.unwrap();
        let seen = world.db.lookup_session(user.tenant, signed_in.session, accounts.now()).await.unwrap().unwrap();
        assert_eq!(seen.last_seen_at, accounts.now());

        let (other, other_signed_in) = signed_in_session(&world, user.tenant).await;
        let mut wakes = world.db.wakes(Wake::Revocations);
        assert_eq!(accounts.end_other_sessions(&user, Some(signed_in.session)).await.unwrap(), 1);
        wakes.changed().await.unwrap();
        assert_eq!(store.load(&other.id).await.unwrap(), None);
        assert!(accounts.is_live(user.tenant, caller.credential).await.unwrap());

        accounts.end_session(&user, signed_in.session).await.unwrap();
        assert!(!accounts.is_live(user.tenant, caller.credential).await.unwrap());
        // A request that was under way saves its session late: that does not bring it back.
        record.data.insert("late".into(), true.into());
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), None);
        assert_eq!(world.revoked().await, [other_signed_in.session.as_uuid(), signed_in.session.as_uuid()]);
    }

    async fn a_session_expires_and_is_swept(database: TestDatabase) {
        let world = World::open(&database).await;
        let (accounts, user) = (&world.accounts, world.user("a@x.test").await);
        let store = accounts.session_store();
        let (record, signed_in) = signed_in_session(&world, user.tenant).await;
        // The identifier of a record that is there is not given out twice.
        let mut twin = Record { data: Default::default(), ..record.clone() };
        store.create(&mut twin).await.unwrap();
        assert_ne!(twin.id, record.id);
        // Signing in again cycles the identifier, which ends the old one.
        store.delete(&record.id).await.unwrap();
        assert_eq!(world.revoked().await, [signed_in.session.as_uuid()]);
        assert_eq!(world.db.list_revocations(0, 9).await.unwrap()[0].kind, Revoked::Session);

        world.clock.set(twin.expiry_date.into());
        assert_eq!(store.load(&twin.id).await.unwrap(), None);
        world.clock.advance(Duration::from_secs(2 * 24 * 3600));
        accounts.sweep().await.unwrap();
        assert!(world.revoked().await.is_empty());
        assert_eq!(world.db.last_revocation().await.unwrap(), (1,), "the sequence goes on");
    }
}

async fn signed_in_session(world: &World, user: UserId) -> (Record, SignedIn) {
    let signed_in = SignedIn::new(user, &client());
    let end = world.accounts.now() + Duration::from_secs(3600);
    let data = [(SignedIn::KEY.to_owned(), serde_json::to_value(&signed_in).unwrap())];
    let mut record = Record { id: Id::default(), data: data.into(), expiry_date: end.as_offset_date_time() };
    world.accounts.session_store().create(&mut record).await.unwrap();
    (record, signed_in)
}
