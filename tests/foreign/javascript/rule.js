export const projector = {
  describe: () => ({
    name: 'foreign-javascript', version: '1.0.0', summary: 'Notifies from JavaScript when results are ready.',
    subscriptions: [{ eventType: 'huleedu.ras.batch.results.ready.v1' }], config: [], requires: [],
  }),
  checkConfig() {},
  project(event, context) {
    if (event.tag !== 'batch-results-ready-v1') throw { code: 'unknown-event', reason: context.eventType };
    const { batchId, userId, completedEssays, totalEssays } = event.val;
    const payload = JSON.stringify({ message: `${completedEssays} of ${totalEssays} essays ready` });
    const notification = {
      recipient: userId, notificationType: 'batch_results_ready', category: 'processing_results', priority: 'standard',
      payload, key: '', actionRequired: false, batchId, policies: [],
    };
    return { notifications: [notification], withdrawals: [] };
  },
};
