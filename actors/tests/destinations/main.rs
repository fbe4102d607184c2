//! Every action of every destination against a service of its own on loopback.
//!
//! A destination's own file says what there is: its settings, and a case for each action. [`suite`] then asks all
//! of them the same: does it what a person would expect, once and again; is what goes wrong told as what it is. [`pages`] holds the documentation to the declarations.

mod fakes;
mod pages;
mod suite;

mod activecampaign;
mod aweber;
mod customer_io;
mod discord;
mod hubspot;
mod intercom;
mod mailchimp;
mod mailerlite;
mod pipedrive;
mod resend;
mod salesforce;
mod sendgrid;
mod slack;
mod zoom;
