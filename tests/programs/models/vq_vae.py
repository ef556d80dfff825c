"""VQ-VAE: a codebook of moving averages, a straight-through gradient (van den Oord et al., 2017)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class VectorQuantizerEMA(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, commitment_cost, decay, epsilon=1e-5):
        super().__init__()
        self._embedding_dim = embedding_dim
        self._num_embeddings = num_embeddings
        self._embedding = nn.Embedding(self._num_embeddings, self._embedding_dim)
        self._embedding.weight.data.normal_()
        self._embedding.weight.requires_grad_(False)
        self._commitment_cost = commitment_cost
        self.register_buffer("_ema_cluster_size", torch.zeros(num_embeddings))
        self.register_buffer("_ema_w", self._embedding.weight.detach().clone())
        self._decay = decay
        self._epsilon = epsilon

    def forward(self, inputs):
        inputs = inputs.permute(0, 2, 3, 1).contiguous()
        input_shape = inputs.shape
        flat_input = inputs.view(-1, self._embedding_dim)
        weight = self._embedding.weight
        distances = (torch.sum(flat_input**2, dim=1, keepdim=True) + torch.sum(weight.clone() ** 2, dim=1)
                     - 2 * torch.matmul(flat_input, weight.clone().t()))
        encoding_indices = torch.argmin(distances, dim=1).unsqueeze(1)
        encodings = torch.zeros(encoding_indices.shape[0], self._num_embeddings, device=inputs.device)
        encodings.scatter_(1, encoding_indices, 1)
        quantized = torch.matmul(encodings, weight.clone()).view(input_shape)
        if self.training:
            with torch.no_grad():
                self._ema_cluster_size.mul_(self._decay).add_(encodings.sum(0), alpha=1 - self._decay)
                n = torch.sum(self._ema_cluster_size)
                sizes = (self._ema_cluster_size + self._epsilon) / (n + self._num_embeddings * self._epsilon) * n
                dw = torch.matmul(encodings.t(), flat_input)
                self._ema_w.mul_(self._decay).add_(dw, alpha=1 - self._decay)
                self._embedding.weight.copy_(self._ema_w / sizes.unsqueeze(1))
        e_latent_loss = F.mse_loss(quantized.detach(), inputs)
        quantized = inputs + (quantized - inputs).detach()
        avg_probs = torch.mean(encodings, dim=0)
        perplexity = torch.exp(-torch.sum(avg_probs * torch.log(avg_probs + 1e-10)))
        return self._commitment_cost * e_latent_loss, quantized.permute(0, 3, 1, 2).contiguous(), perplexity


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self._encoder = nn.Conv2d(1, 4, kernel_size=4, stride=2, padding=1)
        self._vq_vae = VectorQuantizerEMA(6, 4, commitment_cost=0.25, decay=0.99)
        self._decoder = nn.ConvTranspose2d(4, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        loss, quantized, perplexity = self._vq_vae(self._encoder(x))
        return loss, self._decoder(quantized), perplexity


def make():
    image = torch.randn(2, 1, 6, 6)
    return Model(), (image,), (image,)


def loss(output, image):
    vq_loss, data_recon, _ = output
    return F.mse_loss(data_recon, image) / 0.06 + vq_loss
