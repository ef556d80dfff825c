"""Masked autoencoder: patches are shuffled by argsort, dropped, and restored by gather (He et al., 2021)."""
import flambeau as torch
import flambeau.nn as nn


class MaskedAutoencoder(nn.Module):
    def __init__(self, patch=2, grid=4, dim=8, decoder_dim=6):
        super().__init__()
        self.patch, self.dim = patch, dim
        self.patch_embed = nn.Linear(patch * patch * 3, dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid, dim), requires_grad=False)
        self.pos_embed.data.copy_(torch.linspace(-1, 1, grid * grid * dim).sin().view(1, -1, dim))
        self.encoder = nn.TransformerEncoderLayer(dim, 2, 12, 0.0, activation=nn.GELU(), batch_first=True)
        self.decoder_embed = nn.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_pred = nn.Linear(decoder_dim, patch * patch * 3, bias=True)
        torch.nn.init.normal_(self.mask_token, std=0.02)
        self.apply(self._init_weights)

    def _init_weights(self, m):
        if isinstance(m, nn.Linear):
            torch.nn.init.xavier_uniform_(m.weight)
            if isinstance(m, nn.Linear) and m.bias is not None:
                nn.init.constant_(m.bias, 0)

    def patchify(self, imgs):
        p = self.patch
        h = w = imgs.shape[2] // p
        x = imgs.reshape(shape=(imgs.shape[0], 3, h, p, w, p))
        x = torch.einsum("nchpwq->nhwpqc", x)
        return x.reshape(shape=(imgs.shape[0], h * w, p**2 * 3))

    def random_masking(self, x, noise, mask_ratio):
        N, L, D = x.shape
        len_keep = int(L * (1 - mask_ratio))
        ids_shuffle = torch.argsort(noise, dim=1)
        ids_restore = torch.argsort(ids_shuffle, dim=1)
        ids_keep = ids_shuffle[:, :len_keep]
        x_masked = torch.gather(x, dim=1, index=ids_keep.unsqueeze(-1).repeat(1, 1, D))
        mask = torch.ones([N, L], device=x.device)
        mask[:, :len_keep] = 0
        mask = torch.gather(mask, dim=1, index=ids_restore)
        return x_masked, mask, ids_restore

    def forward(self, imgs, noise, mask_ratio=0.75):
        target = self.patchify(imgs)
        x = self.patch_embed(target) + self.pos_embed
        x, mask, ids_restore = self.random_masking(x, noise, mask_ratio)
        x = self.decoder_embed(self.encoder(x))
        mask_tokens = self.mask_token.repeat(x.shape[0], ids_restore.shape[1] - x.shape[1], 1)
        x = torch.cat([x, mask_tokens], dim=1)
        x = torch.gather(x, dim=1, index=ids_restore.unsqueeze(-1).repeat(1, 1, x.shape[2]))
        return self.decoder_pred(x), target, mask


def make():
    return MaskedAutoencoder(), (torch.randn(2, 3, 8, 8), torch.rand(2, 16)), ()


def loss(output):
    pred, target, mask = output
    mean = target.mean(dim=-1, keepdim=True)
    var = target.var(dim=-1, keepdim=True)
    target = (target - mean) / (var + 1.0e-6) ** 0.5
    per_patch = ((pred - target) ** 2).mean(dim=-1)
    return (per_patch * mask).sum() / mask.sum()
