//! How large the head of a request may be. What is no head at all, has more than 96 headers or is larger than 128 KiB is
//! refused by the HTTP server itself, with a bare 400 or 413 and the end of the connection.

use actix_web::{
    HttpRequest,
    http::{StatusCode, Uri, header::HeaderMap},
};
use hookyard_chassis::api_error::ApiError;

/// Bytes of path and query: a URL of 2,048 characters fits in, whatever its escapes.
const MAX_TARGET_BYTES: usize = 8 << 10;

/// Bytes of all names and values.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Refuses a head that no client of ours needs.
///
/// # Errors
/// 414 `URI_TOO_LONG`, 431 `HEADERS_TOO_LARGE`.
pub(super) fn check(request: &HttpRequest) -> Result<(), ApiError> {
    check_parts(request.uri(), request.headers())
}

fn check_parts(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if target > MAX_TARGET_BYTES {
        let message = format!("path and query have {target} bytes, {MAX_TARGET_BYTES} are read");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", message));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        let message = format!("the headers have {bytes} bytes, {MAX_HEADER_BYTES} are read");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::new(status, "HEADERS_TOO_LARGE", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_head_has_its_bounds() {
        let code = |target: usize, header: usize| {
            let uri: Uri = format!("/{}?{}", "a".repeat(target / 2 - 1), "b".repeat(target - target / 2 - 1))
                .parse()
                .unwrap();
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(&"x".repeat(header - 1)).unwrap();
            headers.insert(HeaderName::from_static("a"), value);
            check_parts(&uri, &headers).err().map(|error| (error.status().as_u16(), error.code()))
        };
        assert_eq!(code(MAX_TARGET_BYTES, MAX_HEADER_BYTES), None);
        assert_eq!(code(MAX_TARGET_BYTES + 1, 2), Some((414, "URI_TOO_LONG")));
        assert_eq!(code(2, MAX_HEADER_BYTES + 1), Some((431, "HEADERS_TOO_LARGE")));
    }
}
