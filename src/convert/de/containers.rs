//! Containers, item by item.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::Source;
use crate::convert::view::{Pairs, View};
use crate::error::{ValueError, ValueProblem};

/// Gives all items to a visitor, which has to take them all.
pub(super) fn in_whole<'de, I, V>(items: I, visitor: V) -> Result<V::Value, ValueError>
where
    I: ExactSizeIterator,
    I::Item: Deserializer<'de, Error = ValueError>,
    V: Visitor<'de>,
{
    let len = items.len();
    let mut items = ItemsSource { items, index: 0 };
    let value = visitor.visit_seq(&mut items)?;
    all_taken(len, items.items.len())?;
    Ok(value)
}

/// Gives all pairs to a visitor, which has to take them all.
pub(super) fn pairs_in_whole<'de, V: Visitor<'de>>(
    pairs: Pairs<'de>,
    visitor: V,
) -> Result<V::Value, ValueError> {
    let len = pairs.len();
    let mut pairs = PairsSource { pairs, at: None };
    let value = visitor.visit_map(&mut pairs)?;
    all_taken(len, pairs.pairs.len())?;
    Ok(value)
}

fn all_taken(len: usize, left: usize) -> Result<(), ValueError> {
    if left == 0 {
        return Ok(());
    }
    let expected = format!("a length of {}", len - left);
    Err(ValueError::here(ValueProblem::Length { expected, found: len }))
}

/// The items of a sequence.
struct ItemsSource<I> {
    items: I,
    index: usize,
}

impl<'de, I> SeqAccess<'de> for ItemsSource<I>
where
    I: ExactSizeIterator,
    I::Item: Deserializer<'de, Error = ValueError>,
{
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.in_item(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The pairs of a dict.
struct PairsSource<'de> {
    pairs: Pairs<'de>,
    /// The pair whose key was taken.
    at: Option<(&'de str, View<'de>)>,
}

impl<'de> MapAccess<'de> for PairsSource<'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        self.at = Some((key, value));
        let key = Source::new(View::Str(key));
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let Some((key, value)) = self.at.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Source::new(value)).map_err(|error| error.in_key(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.pairs.len())
    }
}

/// An enum's variant, and what it holds.
pub(super) struct VariantSource<'de> {
    variant: &'de str,
    content: View<'de>,
    /// Whether the variant is a key of the value, and so a part of the place.
    is_key: bool,
}

impl<'de> VariantSource<'de> {
    /// A dict's only pair.
    pub(super) fn of_pair((variant, content): (&'de str, View<'de>)) -> Self {
        Self { variant, content, is_key: true }
    }

    /// A value of a type that has no place in serde.
    pub(super) fn marked(variant: &'static str, content: View<'de>) -> Self {
        Self { variant, content, is_key: false }
    }

    fn give<T>(
        self,
        take: impl FnOnce(Source<'de>) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        let Self { variant, content, is_key } = self;
        take(Source::new(content))
            .map_err(|error| if is_key { error.in_key(variant) } else { error })
    }
}

impl<'de> EnumAccess<'de> for VariantSource<'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), ValueError> {
        let variant = seed.deserialize(BorrowedStrDeserializer::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for VariantSource<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        self.give(<()>::deserialize)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ValueError> {
        self.give(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.give(|content| content.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.give(|content| content.deserialize_struct("", fields, visitor))
    }
}
