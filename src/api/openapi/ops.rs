//! For whoever runs the process, and for whoever reads this.

use super::{Operation, Tag, schema};
use crate::api::ops::StatusJson;
use schemars::{Schema, SchemaGenerator, json_schema};

type Op = Operation;

pub fn tags() -> Vec<Tag> {
    let operations = vec![
        Op::get("/healthz", "getHealth", "Is the process alive?").answers::<StatusJson>(200, "It answers."),
        Op::get("/readyz", "getReadiness", "Are events accepted?")
            .answers::<StatusJson>(200, "They are.")
            .errors([503]),
        Op::get("/metrics", "getMetrics", "How is the process doing?")
            .about("For Prometheus. No label names a tenant.")
            .says(200, "text/plain", schema::text, "Its counters, in the text format of Prometheus."),
        Op::get("/openapi.json", "getOpenApi", "This document")
            .says(200, "application/json", object, "OpenAPI 3.1.")
            .with(&["ETag", "Cache-Control"])
            .silent(304, "It is the one that `If-None-Match` names.")
            .with(&["ETag", "Cache-Control"])
            .header("If-None-Match", schema::text, "The `ETag` of the document that is there already."),
    ];
    vec![Tag {
        name: "Operation",
        description: "For whoever runs the server. Outside `/api/v1`, and for anybody who can reach it.",
        operations,
    }]
}

fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}
