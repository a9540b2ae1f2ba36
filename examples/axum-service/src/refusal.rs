//! Why a request has no score: a status, a word that programs can go by, and a text.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use nearcall::error::{AnswerError, CallError, Code, RetrieveError, TaskError, WaitError};
use serde_json::json;

/// After how many seconds a client may come again that could not be served now.
const RETRY_AFTER: &str = "1";

#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn of_deadline(header: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "bad_deadline",
            message: format!("{header} is a whole number of milliseconds"),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        // 400: no JSON; 422: not the fields; 415: not said to be JSON; 413: too long.
        Self { status: rejection.status(), code: "bad_body", message: rejection.body_text() }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        let code = error.code();
        let status = match code {
            Code::Full | Code::Unavailable | Code::Closed | Code::NoSharedMemory => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Code::Mismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::DeadlinePassed => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            // Everything, the traceback and a dead worker's last words too, for the operator alone.
            eprintln!("{code}: {error}");
        }
        let message = match error {
            CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Python(error)))) => {
                error.to_string()
            }
            CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Died {
                exit,
                ..
            }))) => format!("the process that computed it ended: {exit}"),
            _ if code == Code::Unavailable => "the model cannot be run at the moment".to_owned(),
            error => error.to_string(),
        };
        Self { status, code: code.as_str(), message }
    }
}

impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Self {
        eprintln!("the model's answer is no score: {error}");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "no_score",
            message: "the model's answer is no score".to_owned(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "code": self.code, "message": self.message }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = header::HeaderValue::from_static(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}
