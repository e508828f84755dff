//! How the user service's values are stored.

use like_protocol::ids::SagaId;
use like_protocol::likes::user::{CallerKey, LikeTarget, UserOperation, UserReply};
use like_protocol::likes::{ArticleId, UserId};
use uuid::Uuid;

use super::RecordId;
use crate::store::fields::{Fields, Malformed, Stored, put_number};

/// Set in an operation's kind if it carries a key.
const KEYED: u8 = 0x02;

/// Sixteen bytes.
impl Stored for RecordId {
    fn store(&self, out: &mut Vec<u8>) {
        out.extend(self.0.as_bytes());
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self(SagaId::from_bytes(fields.array()?)))
    }
}

/// `kind(1) user(number) article(number) [key(16)]`; `kind` is 0 to like and 1 to unlike, 2 more with a key.
impl Stored for UserOperation {
    fn store(&self, out: &mut Vec<u8>) {
        let (kind, target) = match self {
            Self::CreateLike(target) => (0, target),
            Self::RemoveLike(target) => (1, target),
        };
        out.push(if target.key.is_some() { kind | KEYED } else { kind });
        put_number(out, target.user.0);
        put_number(out, target.article.0);
        out.extend(target.key.iter().flat_map(|key| key.0.as_bytes()));
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let kind = fields.byte()?;
        let user = UserId(fields.number()?);
        let article = ArticleId(fields.number()?);
        let key = match kind & KEYED {
            0 => None,
            _ => Some(CallerKey(Uuid::from_bytes(fields.array()?))),
        };
        let target = LikeTarget { user, article, key };
        match kind & !KEYED {
            0 => Ok(Self::CreateLike(target)),
            1 => Ok(Self::RemoveLike(target)),
            _ => Err(Malformed("an unknown operation")),
        }
    }
}

/// The record's id.
impl Stored for UserReply {
    fn store(&self, out: &mut Vec<u8>) {
        RecordId(self.record).store(out);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { record: RecordId::load(fields)?.0 })
    }
}
