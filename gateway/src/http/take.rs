//! What is taken from a request: headers, path, query and body. Whatever is missing or makes no sense is told as a
//! problem that says which and why.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use like_protocol::ids::SagaId;
use like_protocol::likes::user::CallerKey;
use like_protocol::likes::{ArticleId, UserId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::App;
use super::problem::{Kind, Problem};
use crate::admin::{Administrator, NoAdministrator};
use crate::serve::Peer;

/// The header that says whom a request speaks for.
pub const USER_HEADER: &str = "x-user-id";

/// The header by which a retry is known.
pub const KEY_HEADER: &str = "idempotency-key";

/// Who speaks, from `X-User-ID`.
pub struct Speaker(pub UserId);

impl<S: Sync> FromRequestParts<S> for Speaker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let invalid = |detail: &str| {
            Problem::new(Kind::Invalid, format!("X-User-ID {detail}"))
                .hint("send one X-User-ID header with the number of the user")
        };
        let text = only(&parts.headers, USER_HEADER).map_err(|()| invalid("was given more than once"))?;
        let text = text.ok_or_else(|| invalid("is missing"))?;
        number(text).map(|id| Self(UserId(id))).ok_or_else(|| invalid("is no number from 0 to 2^64 - 1"))
    }
}

/// The caller's idempotency key, if it gave one: a UUID, bare or in quotation marks.
pub struct Key(pub Option<CallerKey>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let invalid = |detail: &str| {
            Problem::new(Kind::Invalid, format!("Idempotency-Key {detail}"))
                .hint("draw a random UUID for every new act, and send the same one with its retries")
        };
        let text = only(&parts.headers, KEY_HEADER).map_err(|()| invalid("was given more than once"))?;
        let Some(text) = text else { return Ok(Self(None)) };
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let key = Uuid::try_parse(bare).map_err(|_| invalid("is no UUID"))?;
        Ok(Self(Some(CallerKey(key))))
    }
}

/// The only value of a header; an error if there are several, or one that is no text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.to_str().unwrap_or_default().trim())),
        _ => Err(()),
    }
}

/// A number as ids are written: decimal digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The one parameter of a path.
async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, state).await;
    let parameters = parameters.map_err(|e| Problem::new(Kind::Invalid, e.body_text()))?;
    let value = parameters.iter().next().map(|(_, value)| value.to_owned());
    value.ok_or_else(|| Problem::new(Kind::Internal, "a path without its parameter"))
}

/// The article that a path names.
pub struct ArticlePath(pub ArticleId);

impl<S: Send + Sync> FromRequestParts<S> for ArticlePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = parameter(parts, state).await?;
        let id = number(&text).map(ArticleId);
        id.map(Self).ok_or_else(|| Problem::new(Kind::Invalid, format!("`{text}` is no article's number")))
    }
}

/// The user that a path names.
pub struct UserPath(pub UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = parameter(parts, state).await?;
        let id = number(&text).map(UserId);
        id.map(Self).ok_or_else(|| Problem::new(Kind::Invalid, format!("`{text}` is no user's number")))
    }
}

/// The saga that a path names.
pub struct SagaPath(pub SagaId);

impl<S: Send + Sync> FromRequestParts<S> for SagaPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = parameter(parts, state).await?;
        let id = text.parse().map(Self);
        id.map_err(|_| Problem::new(Kind::Invalid, format!("`{text}` is no saga's id")))
    }
}

/// An administrator: by the user at the other end of a Unix socket, or by `Authorization: Bearer TOKEN`.
pub struct Admin(pub Administrator);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let peer = parts.extensions.get().copied().unwrap_or(Peer::Unknown);
        let shown = only(&parts.headers, "authorization").unwrap_or_default();
        let token = shown
            .and_then(|shown| shown.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let recognised = app.administrators.recognise(peer, token.map(|(_, token)| token.trim()));
        recognised.map(Self).map_err(|why| match why {
            NoAdministrator::SwitchedOff => {
                Problem::new(Kind::Forbidden, "administration over HTTP is switched off")
                    .hint("use likectl, or start the gateway with --admin-token-file or --admin-user")
            }
            NoAdministrator::NothingShown => {
                Problem::new(Kind::Unauthorized, "only administrators may do that")
                    .hint("send Authorization: Bearer and the administrators' token")
            }
            NoAdministrator::WrongToken => {
                tracing::warn!(?peer, "a wrong administrators' token was shown");
                Problem::new(Kind::Unauthorized, "that is not the administrators' token")
            }
        })
    }
}

/// What stands behind the question mark.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|e| Problem::new(Kind::Invalid, e.body_text()))
    }
}

/// How many rows a page is to have, if that many are possible.
///
/// # Errors
/// None, or more than `most`: a shorter page than was asked for would look like the last one.
pub fn rows(limit: u32, most: u32) -> Result<u32, Problem> {
    let possible = (1..=most).contains(&limit);
    possible
        .then_some(limit)
        .ok_or_else(|| Problem::new(Kind::Invalid, format!("limit is {limit}: a page has 1 to {most} rows")))
}

/// A JSON document as the body.
pub struct Document<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let taken = Json::from_request(request, state).await;
        taken.map(|Json(Object(document))| Self(document)).map_err(|rejection| {
            let kind = match rejection {
                JsonRejection::JsonDataError(_) => Kind::Invalid,
                JsonRejection::MissingJsonContentType(_) => Kind::UnsupportedMediaType,
                _ => Kind::Malformed,
            };
            Problem::new(kind, rejection.body_text())
        })
    }
}

/// What is written as an object. A derived reader would take a list of its fields in their order as well, which nobody has
/// been promised.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn take<T: FromRequestParts<()>>(headers: &[(&str, &str)]) -> Result<T, T::Rejection> {
        let request =
            headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        T::from_request_parts(&mut request.body(()).unwrap().into_parts().0, &()).await
    }

    #[tokio::test]
    async fn a_speaker_is_one_number() {
        assert_eq!(take::<Speaker>(&[("X-User-ID", "7")]).await.ok().unwrap().0, UserId(7));
        for bad in ["", "-1", "+1", "1.0", "0x1", "alice", "18446744073709551616", "1 2"] {
            assert!(take::<Speaker>(&[("X-User-ID", bad)]).await.is_err(), "{bad}");
        }
        assert!(take::<Speaker>(&[]).await.is_err());
        assert!(take::<Speaker>(&[("X-User-ID", "7"), ("X-User-ID", "8")]).await.is_err());
    }

    #[tokio::test]
    async fn a_key_is_a_uuid_bare_or_quoted_or_not_there() {
        let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        let same = Uuid::try_parse(key).unwrap();
        for given in [key.to_owned(), format!("\"{key}\"")] {
            let taken = take::<Key>(&[("Idempotency-Key", &given)]).await.ok().unwrap();
            assert_eq!(taken.0, Some(CallerKey(same)));
        }
        assert!(take::<Key>(&[]).await.ok().unwrap().0.is_none());
        for bad in ["", "\"", "order-1", "\"\""] {
            assert!(take::<Key>(&[("Idempotency-Key", bad)]).await.is_err(), "{bad}");
        }
    }
}
