//! The tiny trained model of `data/` through the binary: a bitnet-b1.58 in I2_S with int8 activations. The ids are
//! those of two numpy oracles (`tests/oracle/forward.py`), and of the bare program in `tests/bare/`.

use crate::run::{in_repository, json, trill};
use serde_json::json as value;

#[test]
fn greedy_story_is_that_of_the_oracle() {
    let model = in_repository("tests/data/stories-bitnet-I2_S.gguf");
    let model = model.to_str().expect("a UTF-8 path");
    let got = json(trill(&["run", "-m", model, "-p", "Once upon a time", "-n", "12", "--temp", "0", "--json"]));
    assert_eq!(got["text"], ", there was a little girl named Lily. She loved to");
    assert_eq!(got["token_ids"], value!([44, 403, 282, 258, 392, 468, 426, 407, 46, 322, 508, 265]));
}
