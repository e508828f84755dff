//! An OpenAPI document as a contract: what it says may be answered, and whether an answer is that.
//!
//! Knows the words of JSON Schema that our document uses, and refuses to judge by any other. Stricter than JSON Schema in
//! one thing: a property that the document does not name is a breach.

use serde_json::{Map, Value};

use crate::http::{Answer, Request};

/// An operation of the document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Operation {
    /// Its path, as a template.
    pub path: String,
    /// Its method, in upper case.
    pub method: String,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A document.
#[derive(Clone, Debug)]
pub struct Contract(pub Value);

impl Contract {
    /// Every operation.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().into_iter().flatten() {
            for method in item.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()) {
                operations.push(Operation { path: path.clone(), method });
            }
        }
        operations
    }

    /// The operation that answers a request, if the document has one.
    pub fn find(&self, request: &Request) -> Option<Operation> {
        let (method, path) = request.target();
        let fits = |part: &str, given: &str| part.starts_with('{') || part == given;
        let matches = |template: &str| {
            let same_length = template.split('/').count() == path.split('/').count();
            same_length && template.split('/').zip(path.split('/')).all(|(part, given)| fits(part, given))
        };
        let operations = self.operations().into_iter();
        operations.filter(|operation| operation.method == method).find(|operation| matches(&operation.path))
    }

    /// What the document says of an operation.
    pub fn of(&self, operation: &Operation) -> &Value {
        &self.0["paths"][&operation.path][operation.method.to_lowercase()]
    }

    /// The statuses that an operation may answer with.
    pub fn statuses(&self, operation: &Operation) -> Vec<u16> {
        let responses = self.of(operation)["responses"].as_object().into_iter().flatten();
        responses.filter_map(|(status, _)| status.parse().ok()).collect()
    }

    /// Whether an answer is one that the operation may give: status, media type, headers and body.
    ///
    /// # Errors
    /// What it breaks.
    pub fn check(&self, operation: &Operation, answer: &Answer) -> Result<(), String> {
        let described = &self.of(operation)["responses"][answer.status.to_string()];
        if described.is_null() {
            return Err(format!("status {} is not described", answer.status));
        }
        for name in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            // A link to the next page is there only if there is one.
            if name != "Link" && answer.header(&name.to_lowercase()).is_none() {
                return Err(format!("the header {name} is missing"));
            }
        }
        let media = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let content = described["content"].as_object().cloned().unwrap_or_default();
        let Some(schema) = content.get(media).map(|content| &content["schema"]) else {
            return Err(format!("the type {media:?} is not described for {}", answer.status));
        };
        if !media.ends_with("json") {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|e| format!("no JSON: {e}"))?;
        if media == "application/problem+json" && body["status"] != answer.status {
            return Err(format!("the document says {}, the answer {}", body["status"], answer.status));
        }
        self.fits(schema, &body, "$")
    }

    /// Whether a value is what a schema says.
    ///
    /// # Errors
    /// What it is not, and where.
    pub fn fits(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolved(schema);
        let breach = |what: String| Err(format!("{at} {what}: {value}"));
        if let Some(word) = schema.keys().find(|word| !KNOWN.contains(&word.as_str())) {
            return Err(format!("{at}: nobody knows what {word} means"));
        }
        if let Some(types) = schema.get("type")
            && !is_of_type(types, value)
        {
            return breach(format!("is no {types}"));
        }
        if schema.get("enum").is_some_and(|all| !all.as_array().is_some_and(|all| all.contains(value))) {
            return breach("is none of the words".to_owned());
        }
        if let (Some(least), Some(number)) = (schema.get("minimum").and_then(Value::as_i64), value.as_i64())
            && number < least
        {
            return breach(format!("is less than {least}"));
        }
        if let (Some(Value::String(format)), Value::String(text)) = (schema.get("format"), value)
            && !has_format(format, text)
        {
            return breach(format!("is no {format}"));
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.has_properties(&self.resolved(part), value, at)?;
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let fitting = choices.iter().filter(|choice| self.fits(choice, value, at).is_ok()).count();
            if fitting != 1 {
                return breach(format!("is {fitting} of the choices"));
            }
            return Ok(());
        }
        self.has_properties(&schema, value, at)?;
        if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
            for (number, item) in values.iter().enumerate() {
                self.fits(items, item, &format!("{at}[{number}]"))?;
            }
        }
        let named = self.names(&schema);
        match value.as_object() {
            Some(object) if !named.is_empty() => match object.keys().find(|name| !named.contains(name)) {
                Some(unknown) => breach(format!("has the property {unknown}, which is not described")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn has_properties(&self, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if value.get(name).is_none() {
                return Err(format!("{at} lacks {name}: {value}"));
            }
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = value.get(name) {
                self.fits(property, value, &format!("{at}.{name}"))?;
            }
        }
        Ok(())
    }

    /// The properties that a schema names, in its parts too.
    fn names(&self, schema: &Map<String, Value>) -> Vec<String> {
        let own = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut names: Vec<_> = own.map(|(name, _)| name.clone()).collect();
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            names.extend(self.names(&self.resolved(part)));
        }
        names
    }

    fn resolved(&self, schema: &Value) -> Map<String, Value> {
        let Some(reference) = schema["$ref"].as_str() else {
            return schema.as_object().cloned().unwrap_or_default();
        };
        let target = reference.strip_prefix('#').and_then(|pointer| self.0.pointer(pointer));
        target.map(|target| self.resolved(target)).unwrap_or_default()
    }
}

/// The words of JSON Schema that are understood here.
const KNOWN: [&str; 17] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "oneOf",
    "properties",
    "required",
    "title",
    "type",
];

/// Whether a value is of a type, or of one of several.
fn is_of_type(types: &Value, value: &Value) -> bool {
    match types {
        Value::Array(any) => any.iter().any(|one| is_of_type(one, value)),
        _ => match types.as_str().unwrap_or_default() {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
    }
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "date-time" => {
            let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            shape == "0000-00-00T00:00:00.000Z"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_breaks_a_schema_is_said_and_where() {
        let contract = Contract(json!({ "components": { "schemas": { "Named": {
            "type": "object", "required": ["name"],
            "properties": { "name": { "type": "string" }, "at": { "type": ["string", "null"], "format": "date-time" } },
        } } } }));
        let named = json!({ "$ref": "#/components/schemas/Named" });
        let list = json!({ "type": "array", "items": named });
        let either = json!({ "oneOf": [{ "type": "null" }, named] });
        let both = json!({ "allOf": [named, { "type": "object", "required": ["n"],
                            "properties": { "n": { "type": "integer", "minimum": 0 } } }] });
        let good = json!({ "name": "a", "at": "2025-11-22T10:00:00.000Z" });
        for (schema, value) in [
            (&named, good.clone()),
            (&list, json!([good])),
            (&either, Value::Null),
            (&both, json!({ "name": "a", "n": 1 })),
        ] {
            contract.fits(schema, &value, "$").unwrap();
        }
        for (schema, value, breach) in [
            (&named, json!({}), "lacks name"),
            (&named, json!({ "name": 1 }), "$.name is no"),
            (&named, json!({ "name": "a", "at": "today" }), "$.at is no date-time"),
            (&named, json!({ "name": "a", "more": 1 }), "more, which is not described"),
            (&list, json!([{ "name": "a" }, 1]), "$[1] is no"),
            (&either, json!(1), "is 0 of the choices"),
            (&both, json!({ "name": "a" }), "lacks n"),
            (&both, json!({ "name": "a", "n": -1 }), "less than 0"),
            (&both, json!({ "name": "a", "n": 1, "more": 1 }), "more, which is not described"),
            (&json!({ "pattern": "a" }), json!("a"), "nobody knows what pattern means"),
        ] {
            let said = contract.fits(schema, &value, "$").unwrap_err();
            assert!(said.contains(breach), "{said}");
        }
    }
}
