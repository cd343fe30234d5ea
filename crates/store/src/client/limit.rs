//! Bounds what is kept of an answer: the SDK reads all of it into memory, unless it is an object.

use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextMut,
    },
    error::BoxError,
    primitives::SdkBody,
};
use http_body_util::Limited;

/// A page of a listing has a thousand keys of a kilobyte at most, which XML may make six times longer.
const MAX_ANSWER: usize = 16 << 20;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Refusals: of an object as much is read as was listed.
    Refusals,
    All,
}

impl Intercept for Limit {
    fn name(&self) -> &'static str {
        "limit of answers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if matches!(self, Self::All) || !answer.status().is_success() {
            let limited = Limited::new(answer.take_body(), MAX_ANSWER);
            *answer.body_mut() = SdkBody::from_body_1_x(limited);
        }
        Ok(())
    }
}
