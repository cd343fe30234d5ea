//! What lies under the prefix, page by page; where a store does not go on, what was listed until then.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use aws_sdk_s3::types::{EncodingType, Object as Listed};

use super::{
    bucket::{Bucket, Object},
    failure::SdkError,
    limit::Limit,
    unsupported::Unsupported,
};

/// More would not fit into memory with their keys, and no store of traces has as many.
const MAX_OBJECTS: usize = 5_000_000;

/// In a row. S3 may send some where much was deleted.
const MAX_EMPTY_PAGES: usize = 1000;

/// The objects that a store has listed.
#[derive(Debug, Default)]
pub struct Listing {
    pub objects: Vec<Object>,
    /// Why these are not all.
    pub stopped: Option<Error>,
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    First,
    Token(String),
    /// The first form of listings, which older stores know alone: what follows this key.
    Marker(String),
}

#[derive(Debug, Default)]
struct Page {
    listed: Vec<Listed>,
    is_truncated: bool,
    token: Option<String>,
    marker: Option<String>,
    is_url_encoded: bool,
}

impl Bucket {
    /// Every object under the prefix, without the markers that stand for folders.
    pub async fn list(&self) -> Result<Vec<Object>> {
        let Listing { objects, stopped } = self.list_what_can_be().await?;
        match stopped {
            None => Ok(objects),
            Some(reason) => Err(reason.context(self.cannot_list())),
        }
    }

    /// The same, as far as the store goes on. Fails if it does not even begin.
    pub async fn list_what_can_be(&self) -> Result<Listing> {
        let mut objects = Vec::new();
        let keep = |object| {
            objects.push(object);
            Ok(())
        };
        let stopped = self.list_each(self.prefix.fixed(), keep).await?;
        Ok(Listing { objects, stopped })
    }

    /// Every object whose key begins so, one by one, but for the markers that stand for folders. Returns
    /// why these are not all: also where `visit` wants no more.
    pub async fn list_each(
        &self,
        prefix: &str,
        mut visit: impl FnMut(Object) -> Result<()>,
    ) -> Result<Option<Error>> {
        let mut next = Next::First;
        let mut count = 0;
        let mut unsized_object = None;
        // By the first key of each: a store may go round in circles.
        let (mut pages, hashes) = (HashSet::new(), RandomState::new());
        let mut empty_pages = 0;
        loop {
            let page = match self.page(prefix, &next).await {
                Ok(page) => page,
                Err(error) if next == Next::First => {
                    return Err(error.context(self.cannot_list_below(prefix)));
                }
                Err(error) => return Ok(Some(error)),
            };
            let keys = match page.keys() {
                Ok(keys) => keys,
                Err(error) => return Ok(Some(error)),
            };
            let is_repeated =
                keys.first().is_some_and(|first| !pages.insert(hashes.hash_one(first)));
            count += keys.len();
            empty_pages = if keys.is_empty() { empty_pages + 1 } else { 0 };
            if is_repeated || empty_pages > MAX_EMPTY_PAGES || count > MAX_OBJECTS {
                return Ok(Some(match (is_repeated, empty_pages) {
                    (true, _) => anyhow!("{} lists the same keys again", self.store),
                    (false, 0) => anyhow!("there are more than {MAX_OBJECTS} objects"),
                    _ => anyhow!("{} sends one empty page after the other", self.store),
                }));
            }
            let last = keys.last().cloned();
            for (key, listed) in keys.into_iter().zip(&page.listed) {
                if key.ends_with('/') {
                    continue;
                }
                if let Some(bytes) = listed.size().and_then(|size| u64::try_from(size).ok()) {
                    let etag = listed.e_tag().map(str::to_owned);
                    if let Err(enough) = visit(Object { key, bytes, etag }) {
                        return Ok(Some(enough));
                    }
                } else {
                    let key = key.escape_debug();
                    unsized_object = Some(anyhow!("the listing tells no size of {key}"));
                }
            }
            if !page.is_truncated {
                return Ok(unsized_object);
            }
            // Without a token the store knows the first form only, whatever it was asked for.
            next = match (page.token, page.marker.or(last)) {
                (Some(token), _) => Next::Token(token),
                (None, Some(key)) => Next::Marker(key),
                (None, None) => {
                    let store = &self.store;
                    let reason = "says that there is more, but not how to ask for it";
                    return Ok(Some(anyhow!("{store} {reason}")));
                }
            };
        }
    }

    fn cannot_list(&self) -> String {
        self.cannot_list_below(self.prefix.fixed())
    }

    fn cannot_list_below(&self, prefix: &str) -> String {
        format!("cannot list s3://{}/{}", self.name, prefix.escape_debug())
    }

    /// Keys may have characters that XML has not; a page that cannot be read is asked for again with
    /// its keys encoded. Not at once, as some stores say that they have encoded, and have not.
    async fn page(&self, prefix: &str, next: &Next) -> Result<Page> {
        let asked = match self.ask(prefix, next, None).await {
            Err(error) if is_unreadable(&error) => {
                self.ask(prefix, next, Some(EncodingType::Url)).await
            }
            asked => asked,
        };
        asked.map_err(|error| self.explain(&error, "s3:ListBucket"))
    }

    async fn ask(
        &self,
        prefix: &str,
        next: &Next,
        encoding: Option<EncodingType>,
    ) -> Result<Page, SdkError<aws_sdk_s3::Error>> {
        let token = match next {
            Next::First if self.unsupported.has(Unsupported::ListV2) => {
                return self.ask_in_the_first_form(prefix, None, encoding).await;
            }
            Next::First => None,
            Next::Token(token) => Some(token.clone()),
            Next::Marker(key) => {
                return self.ask_in_the_first_form(prefix, Some(key), encoding).await;
            }
        };
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let answer = request
            .set_continuation_token(token)
            .set_encoding_type(encoding)
            .customize()
            .interceptor(Limit::All)
            .send()
            .await
            .map_err(|error| error.map_service_error(aws_sdk_s3::Error::from))?;
        Ok(Page {
            is_truncated: answer.is_truncated().unwrap_or(false),
            token: answer.next_continuation_token.filter(|token| !token.is_empty()),
            marker: None,
            is_url_encoded: answer.encoding_type == Some(EncodingType::Url),
            listed: answer.contents.unwrap_or_default(),
        })
    }

    async fn ask_in_the_first_form(
        &self,
        prefix: &str,
        marker: Option<&str>,
        encoding: Option<EncodingType>,
    ) -> Result<Page, SdkError<aws_sdk_s3::Error>> {
        let request = self.client.list_objects().bucket(&self.name).prefix(prefix);
        let answer = request
            .set_marker(marker.map(str::to_owned))
            .set_encoding_type(encoding)
            .customize()
            .interceptor(Limit::All)
            .send()
            .await
            .map_err(|error| error.map_service_error(aws_sdk_s3::Error::from))?;
        let is_url_encoded = answer.encoding_type == Some(EncodingType::Url);
        let marker = answer.next_marker.filter(|marker| !marker.is_empty() && !is_url_encoded);
        Ok(Page {
            is_truncated: answer.is_truncated.unwrap_or(false),
            token: None,
            marker,
            is_url_encoded,
            listed: answer.contents.unwrap_or_default(),
        })
    }
}

impl Page {
    /// One for each that is listed.
    fn keys(&self) -> Result<Vec<String>> {
        self.listed
            .iter()
            .map(|listed| {
                let key = listed.key().context("the listing has an object without a key")?;
                if self.is_url_encoded { decoded(key) } else { Ok(key.to_owned()) }
            })
            .collect()
    }
}

/// As forms encode, and S3 does.
fn decoded(key: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or_default(),
                _ => bail!("the listing has a key with a wrong escape: {}", key.escape_debug()),
            },
            other => other,
        });
    }
    String::from_utf8(bytes)
        .with_context(|| format!("the listing has a key that is not UTF-8: {key}"))
}

/// The answer came, but no listing could be read from it.
fn is_unreadable(error: &SdkError<aws_sdk_s3::Error>) -> bool {
    error.raw_response().is_some_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_s3_encodes_them() {
        assert_eq!(decoded("a+b%2Bc%0A%E2%82%AC/d").unwrap(), "a b+c\n\u{20ac}/d");
        for odd in ["%", "%4", "%zz", "%ff"] {
            assert!(decoded(odd).is_err(), "{odd}");
        }
    }
}
