//! Comma-separated values: fields, quotes, and which columns count.

/// What a record is split into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Split {
    /// Its fields, without quotes and surrounding blanks.
    Fields(Vec<String>),
    /// A quote is open at its end: the record goes on in the next line.
    Open,
    /// It is no record. Why.
    Bad(&'static str),
}

/// Splits a record. A field that begins with a quote ends with one; two quotes in it stand for one.
pub fn split(record: &str) -> Split {
    let mut fields = Vec::new();
    let mut rest = record.trim_end_matches(['\r', '\n']);
    loop {
        let begins = rest.trim_start_matches([' ', '\t']);
        let (field, behind) = match begins.strip_prefix('"') {
            None => {
                let (field, behind) = begins.split_once(',').map_or((begins, None), |(f, r)| (f, Some(r)));
                (field.trim_end().to_owned(), behind)
            }
            Some(quoted) => {
                let Some((field, behind)) = unquote(quoted) else { return Split::Open };
                match behind.trim_start_matches([' ', '\t']) {
                    "" => (field, None),
                    behind => match behind.strip_prefix(',') {
                        Some(behind) => (field, Some(behind)),
                        None => return Split::Bad("there is something behind a quoted field"),
                    },
                }
            }
        };
        fields.push(field);
        match behind {
            Some(behind) => rest = behind,
            None => return Split::Fields(fields),
        }
    }
}

/// A field up to its closing quote, and what is behind that; nothing if there is none.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (before, behind) = rest.split_once('"')?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, behind)),
        }
    }
}

/// Which columns say who likes what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Columns {
    /// The user.
    pub user: usize,
    /// The article.
    pub article: usize,
    /// How many there are. A record with more has a comma too many, and nobody knows which.
    pub all: usize,
}

/// What stands in a file without a header.
const UNNAMED: Columns = Columns { user: 0, article: 1, all: 2 };

/// What the first record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// A header, which names the columns.
    Header(Columns),
    /// A like already: user and article come first.
    Like(Columns),
    /// A header that does not name one user and one article.
    Useless,
}

/// What a file's first record says of the others. `user`, `user_id`, `UserID` and so on are the same.
pub fn first(fields: &[String]) -> First {
    let columns = |name: &str| {
        let is_named = |field: &String| {
            let letters: String = field.chars().filter(char::is_ascii_alphanumeric).collect();
            let letters = letters.to_ascii_lowercase();
            letters == name || letters.strip_suffix("id") == Some(name)
        };
        let named = fields.iter().enumerate().filter(|(_, field)| is_named(field));
        named.map(|(column, _)| column).collect::<Vec<_>>()
    };
    match (&columns("user")[..], &columns("article")[..]) {
        (&[user], &[article]) => First::Header(Columns { user, article, all: fields.len() }),
        _ if fields.iter().any(|field| field.parse::<u64>().is_ok()) => First::Like(UNNAMED),
        _ => First::Useless,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[&str]) -> Vec<String> {
        fields.iter().map(|field| (*field).to_owned()).collect()
    }

    #[test]
    fn fields_are_split_at_commas_outside_of_quotes() {
        assert_eq!(split("1,2"), Split::Fields(fields(&["1", "2"])));
        assert_eq!(split(" 1 ,\t2 ,\r\n"), Split::Fields(fields(&["1", "2", ""])));
        assert_eq!(split("\"a, \"\"b\"\"\" , \"\"\n"), Split::Fields(fields(&["a, \"b\"", ""])));
        assert_eq!(split("5\" disk,1"), Split::Fields(fields(&["5\" disk", "1"])));
        assert_eq!(split("1,2,\"it goes on\n"), Split::Open);
        assert_eq!(
            split("1,2,\"it goes on\nhere\"\n"),
            Split::Fields(fields(&["1", "2", "it goes on\nhere"]))
        );
        assert!(matches!(split("\"1\"x,2"), Split::Bad(_)));
        assert_eq!(split(""), Split::Fields(fields(&[""])));
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let header = |user, article, all| First::Header(Columns { user, article, all });
        assert_eq!(first(&fields(&["user", "article"])), header(0, 1, 2));
        assert_eq!(first(&fields(&["liked_at", "Article-ID", "userId"])), header(2, 1, 3));
        assert_eq!(first(&fields(&["7", "1"])), First::Like(UNNAMED));
        assert_eq!(first(&fields(&["x", "1"])), First::Like(UNNAMED));
        assert_eq!(first(&fields(&["who", "what"])), First::Useless);
        assert_eq!(first(&fields(&["user", "user_id", "article"])), First::Useless, "which of the two?");
    }

    proptest! {
        #[test]
        fn what_was_quoted_is_split_again(fields in proptest::collection::vec("[a-z\",\n ]{0,6}", 1..5)) {
            let quoted: Vec<_> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&quoted.join(",")), Split::Fields(fields));
        }
    }
}
