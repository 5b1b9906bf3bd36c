//! Neurons of a feed-forward layer that can never be anything but zero: with a squared ReLU those whose gate or up row
//! holds nothing but zeros. They are left out; the numbers of those that are kept go along in a tensor.

use super::{Fate, Plan};
use std::collections::HashMap;
use trill::model::{FFN_KEPT, Hparams};
use trill::quant::{Matrix, QuantType};

/// Neurons are kept in multiples of this, which every layout has whole blocks of.
const MULTIPLE: usize = 64;

/// Takes the dead neurons out of the layers whose three matrices are packed.
pub(super) fn drop_dead(plans: &mut Vec<Plan<'_>>, hparams: &Hparams) {
    let places: HashMap<_, _> = plans.iter().enumerate().map(|(i, p)| (p.name, i)).collect();
    let mut found = Vec::new();
    for layer in 0..hparams.n_layer {
        let of = |name: &str| places.get(format!("blk.{layer}.{name}.weight").as_str()).copied();
        let packed = |i: &usize| matches!(plans[*i].fate, Fate::Packed(_));
        let all = [of("ffn_gate"), of("ffn_up"), of("ffn_down")].map(|i| i.filter(packed));
        let [Some(gate), Some(up), Some(down)] = all else { continue };
        // A file that was packed before has other widths, or a list already.
        if plans[gate].source.rows() != hparams.n_ff || places.contains_key(format!("blk.{layer}.{FFN_KEPT}").as_str())
        {
            continue;
        }
        if let Some(kept) = kept(&plans[gate].matrix(), &plans[up].matrix()) {
            found.push((layer, [gate, up, down], kept));
        }
    }
    for (layer, [gate, up, down], kept) in found {
        let kept: &'static [u32] = kept.leak();
        (plans[gate].rows, plans[up].rows, plans[down].columns) = (Some(kept), Some(kept), Some(kept));
        let name = format!("blk.{layer}.{FFN_KEPT}").leak();
        plans.push(Plan { name, fate: Fate::Kept(kept), ty: QuantType::F32, rows: None, columns: None, ..plans[gate] });
        log::debug!("layer {layer}: {} of {} neurons kept", kept.len(), hparams.n_ff);
    }
}

/// The neurons to keep, if some are not.
fn kept(gate: &Matrix<'_>, up: &Matrix<'_>) -> Option<Vec<u32>> {
    let mut values = vec![0f32; gate.cols()];
    let mut alive = |m: &Matrix<'_>, row: usize| {
        m.decode_row(row, &mut values);
        values.iter().any(|v| *v != 0.0)
    };
    let alive: Vec<bool> = (0..gate.rows()).map(|row| alive(gate, row) && alive(up, row)).collect();
    let count = alive.iter().filter(|a| **a).count();
    let mut spare = count.max(1).next_multiple_of(MULTIPLE) - count;
    if count + spare >= alive.len() {
        return None;
    }
    let keep = |(row, alive): (u32, &bool)| {
        let filled = !alive && spare > 0;
        spare -= usize::from(filled);
        (*alive || filled).then_some(row)
    };
    Some((0..).zip(&alive).filter_map(keep).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_kept_and_some_to_fill_up() {
        let matrix = |zero: &dyn Fn(usize) -> bool| -> Vec<u8> {
            let value = |i: usize| if zero(i / 64) { 0.0f32 } else { (i % 3) as f32 - 1.0 };
            (0..256 * 64).flat_map(|i| value(i).to_le_bytes()).collect()
        };
        let (gate, up) = (matrix(&|r| r % 2 == 1), matrix(&|r| (100..200).contains(&r)));
        let of = |data| Matrix::new(QuantType::F32, 256, 64, data).unwrap();
        let got = kept(&of(&gate), &of(&up)).unwrap();
        // 78 are alive: the even ones below 100 and from 200 on. The first 50 others fill up to 128.
        assert_eq!(got.len(), 128);
        assert!(got.is_sorted() && (0..100).all(|r| got.contains(&r)));
        assert!((200..256).filter(|r| r % 2 == 0).all(|r| got.contains(&r)));
        assert_eq!(kept(&of(&matrix(&|_| false)), &of(&matrix(&|r| r < 60))), None);
    }
}
