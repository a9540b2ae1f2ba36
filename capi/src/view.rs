//! A whole answer as plain structures.

use std::ffi::c_void;
use std::ptr;

use engine::{MAX_RANK, TensorRef, ValueRef};

use crate::codes::{Dtype, Kind, dtype_number};
use crate::input::Text;

/// The most dimensions of an array: `NEARCALL_MAX_RANK`.
pub const NEARCALL_MAX_RANK: usize = 32;
const _: () = assert!(NEARCALL_MAX_RANK == MAX_RANK);

/// An array. Its elements belong to the answer it is from.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Tensor {
    /// The type of its elements.
    pub dtype: Dtype,
    /// How many dimensions it has.
    pub rank: usize,
    /// The extent of each; the first `rank` of them.
    pub shape: [usize; NEARCALL_MAX_RANK],
    /// The elements, in C order. They start at any address: copy them (memcpy) before they are read as
    /// something larger than a byte.
    pub data: *const c_void,
    /// How many bytes they have.
    pub bytes: usize,
}

impl Tensor {
    pub(crate) fn new(tensor: TensorRef<'_>) -> Self {
        let mut shape = [0; NEARCALL_MAX_RANK];
        let extents = tensor.shape();
        for (place, extent) in shape.iter_mut().zip(&extents) {
            *place = *extent;
        }
        Self {
            dtype: dtype_number(tensor.dtype()),
            rank: extents.len(),
            shape,
            data: tensor.bytes().as_ptr().cast(),
            bytes: tensor.bytes().len(),
        }
    }
}

/// A value of an answer. It, and all that it points to, belongs to the answer.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct View {
    /// What it is: which of the following says something.
    pub kind: Kind,
    /// A bool.
    pub boolean: bool,
    /// An int.
    pub integer: i64,
    /// A float.
    pub number: f64,
    /// A str, or the bytes of a bytes. No NUL ends it.
    pub text: Text,
    /// How many items a list, tuple or dict has.
    pub count: usize,
    /// The items of a list or tuple, the values of a dict; NULL if there are none.
    pub items: *const View,
    /// The keys of a dict, in the order of its values; NULL if there are none.
    pub keys: *const Text,
    /// An array, or NULL.
    pub tensor: *const Tensor,
}

/// What views point to.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    // Vectors, whose items stay where they are when the outer one grows.
    views: Vec<Vec<View>>,
    keys: Vec<Vec<Text>>,
    tensors: Vec<Vec<Tensor>>,
}

impl Arena {
    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The root, with all that is in it.
    pub(crate) fn fill(&mut self, value: ValueRef<'_>) -> *const View {
        let root = self.view(value);
        self.keep(vec![root])
    }

    pub(crate) fn root(&self) -> *const View {
        self.views.last().map_or(ptr::null(), |root| root.as_ptr())
    }

    fn keep(&mut self, views: Vec<View>) -> *const View {
        let first = if views.is_empty() { ptr::null() } else { views.as_ptr() };
        self.views.push(views);
        first
    }

    /// Not deeper than answers are, which is 64.
    fn view(&mut self, value: ValueRef<'_>) -> View {
        let mut view = View {
            kind: Kind::None,
            boolean: false,
            integer: 0,
            number: 0.0,
            text: text(&[]),
            count: 0,
            items: ptr::null(),
            keys: ptr::null(),
            tensor: ptr::null(),
        };
        match value {
            ValueRef::None => {}
            ValueRef::Bool(boolean) => view = View { kind: Kind::Bool, boolean, ..view },
            ValueRef::Int(integer) => view = View { kind: Kind::Int, integer, ..view },
            ValueRef::Float(number) => view = View { kind: Kind::Float, number, ..view },
            ValueRef::Str(value) => {
                view = View { kind: Kind::Str, text: text(value.as_bytes()), ..view };
            }
            ValueRef::Bytes(value) => view = View { kind: Kind::Bytes, text: text(value), ..view },
            ValueRef::List(items) | ValueRef::Tuple(items) => {
                let is_list = matches!(value, ValueRef::List(_));
                view.kind = if is_list { Kind::List } else { Kind::Tuple };
                let views: Vec<View> = items.iter().map(|item| self.view(item)).collect();
                view.count = views.len();
                view.items = self.keep(views);
            }
            ValueRef::Dict(pairs) => {
                view.kind = Kind::Dict;
                let keys: Vec<Text> = pairs.iter().map(|(key, _)| text(key.as_bytes())).collect();
                let views: Vec<View> = pairs.iter().map(|(_, item)| self.view(item)).collect();
                view.count = views.len();
                view.keys = if keys.is_empty() { ptr::null() } else { keys.as_ptr() };
                self.keys.push(keys);
                view.items = self.keep(views);
            }
            ValueRef::Tensor(tensor) => {
                view.kind = Kind::Tensor;
                let place = vec![Tensor::new(tensor)];
                view.tensor = place.as_ptr();
                self.tensors.push(place);
            }
        }
        view
    }
}

pub(crate) fn text(bytes: &[u8]) -> Text {
    Text { data: bytes.as_ptr().cast(), len: bytes.len() }
}
