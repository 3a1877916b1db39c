"""The stages, one file each: pretrain, sft, reward, ppo, dpo, kto."""
