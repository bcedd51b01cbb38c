"""Fine-tune a wav2vec 2.0 with transformers, then ask it which recordings to transcribe next.

    pip install 'egl-fast[hf]' accelerate
    python examples/finetune_wav2vec2.py --from facebook/wav2vec2-base --out runs/wav2vec2

The recipe is transformers' own: a vocabulary from the transcripts, a processor, a Trainer. What it
leaves in --out is all that `egl-fast score --model hf:runs/wav2vec2` needs. Without --from, a tiny
model with random weights stands in, so that the script runs anywhere within seconds.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import (
    Trainer,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

import egl_fast
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest

HERE = Path(__file__).parent
SAMPLE_RATE_HZ = 16000


def processor_for(texts: list[str], folder: Path) -> Wav2Vec2Processor:
    """A processor whose classes are the characters of the texts."""
    names = ["<pad>", "<unk>", "|", *sorted(set("".join(texts)) - {" "})]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({name: index for index, name in enumerate(names)}))
    return Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False),
        Wav2Vec2CTCTokenizer(
            str(vocabulary), bos_token=None, eos_token=None, pad_token="<pad>", unk_token="<unk>"
        ),
    )


def model_for(processor: Wav2Vec2Processor, pretrained: str | None) -> Wav2Vec2ForCTC:
    """A pretrained encoder with a new output layer, or a tiny stand-in."""
    head = {
        "vocab_size": len(processor.tokenizer),
        "pad_token_id": processor.tokenizer.pad_token_id,  # the blank
        "ctc_loss_reduction": "mean",
        "ctc_zero_infinity": True,
    }
    if pretrained:
        return Wav2Vec2ForCTC.from_pretrained(pretrained, **head)
    return Wav2Vec2ForCTC(
        Wav2Vec2Config(
            **head,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=(16, 16),
            conv_kernel=(20, 32),
            conv_stride=(10, 32),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        )
    )


def main() -> None:
    """Fine-tune, save, score, and show the first picks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, default=HERE / "train.jsonl", help="labeled manifest")
    parser.add_argument("--pool", type=Path, default=HERE / "pool.jsonl", help="to choose from")
    parser.add_argument("--from", dest="pretrained", help="pretrained model: folder or hub name")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--k", type=int, default=20, help="labelings per recording")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    utterances = read_manifest(args.train)
    processor = processor_for([one.text or "" for one in utterances], args.out)
    model = model_for(processor, args.pretrained)
    model.freeze_feature_encoder()

    def features(batch: list[Utterance]) -> dict[str, torch.Tensor]:
        """Padded samples and labels; padded labels are -100, which the loss leaves out."""
        waveforms = [load_audio(one, sample_rate_hz=SAMPLE_RATE_HZ) for one in batch]
        inputs = processor(
            waveforms, sampling_rate=SAMPLE_RATE_HZ, padding=True, return_tensors="pt"
        )
        labels = processor.tokenizer(
            [one.text or "" for one in batch], padding=True, return_tensors="pt"
        )
        inputs["labels"] = labels.input_ids.masked_fill(labels.attention_mask == 0, -100)
        return inputs

    Trainer(
        model,
        TrainingArguments(
            output_dir=str(args.out / "checkpoints"),
            per_device_train_batch_size=8,
            learning_rate=1e-4,
            num_train_epochs=args.epochs,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        data_collator=features,
        train_dataset=utterances,
    ).train()
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)

    scorer = egl_fast.Scorer.from_pretrained(f"hf:{args.out}", device="auto")
    records = list(scorer.score_manifest(args.pool, k=args.k))
    for index in egl_fast.select(records, budget=min(5, len(records))):
        record = records[index]
        print(f"{record.id}  pctc {record.pctc:.3f}  egl {record.egl:.3g}  {record.pred_text!r}")


if __name__ == "__main__":
    main()
