//! Connected with what a person pastes.

use crate::{accounts, story::tell};

/// A test for each, and the list of them.
macro_rules! stories {
    ($($kind:ident),* $(,)?) => {
        pub const ALL: &[&str] = &[$(stringify!($kind)),*];
        $(
            #[tokio::test]
            async fn $kind() {
                tell(accounts::$kind()).await;
            }
        )*
    };
}

stories! {
    activecampaign,
    aweber,
    customer_io,
    discord,
    hubspot,
    intercom,
    mailchimp,
    mailerlite,
    pipedrive,
    resend,
    salesforce,
    sendgrid,
    slack,
    zoom,
}
