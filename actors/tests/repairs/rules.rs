//! Two people who change one rule at once.

use crate::support::*;
use actors::engine::{EngineError, Refusal, RulePatch};

/// Of two changes that were made from the same rule one is refused, so that it does not undo the other
/// unseen; made again, it passes.
#[tokio::test(start_paused = true)]
async fn of_two_changes_of_a_rule_at_once_one_is_refused() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (_, rule) = tenant.route_with("contact.created", Policy::default()).await;
    let [hide, rename] = [
        RulePatch { hidden: Some(true), ..Default::default() },
        RulePatch { event: Some("contact.renamed".to_owned()), ..Default::default() },
    ];
    let change =
        async |patch: &RulePatch| tenant.engine.update_rule(tenant.scope(), rule, patch.clone()).await;
    world.store.hold("configure");
    let both = async {
        tokio::join!(change(&hide), change(&rename), async {
            settle().await;
            world.store.let_go("configure");
        })
    };
    let (hidden, renamed, ()) = both.await;
    let refused = match (hidden, renamed) {
        (Ok(_), Err(why)) => (why, rename),
        (Err(why), Ok(_)) => (why, hide),
        both => panic!("one passes and one is refused: {both:?}"),
    };
    assert!(matches!(refused.0, EngineError::Refused(Refusal::Stale("rule"))), "{:?}", refused.0);
    change(&refused.1).await.expect("made again it passes");
    let rule = tenant.engine.rule(tenant.scope(), rule).await.expect("readable").expect("there");
    assert_eq!((rule.hidden, &*rule.event, rule.version), (true, "contact.renamed", 3));
}
